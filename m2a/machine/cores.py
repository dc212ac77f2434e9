"""The processor's cores that this process may use."""

from __future__ import annotations

import os
from pathlib import Path

_ROOT = Path("/")


def usable_cores(*, root: Path = _ROOT) -> int:
    """Counts them: what a container or `taskset` leaves, or all where the system does not tell.

    A container may leave all cores, but time on fewer (`docker run --cpus=2`): then as many as that
    time is worth, rounded up. Only what cgroup v2 tells at the root of its file system is read.

    Args:
        root: where `/sys` lies.
    """
    allowed = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    quota = _quota(root)
    return allowed if quota is None else min(allowed, quota)


def _quota(root: Path) -> int | None:
    """Cores' worth of time, at least 1; None where there is no limit."""
    try:
        words = (root / "sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
    except OSError:
        return None
    if len(words) != 2 or not all(word.isdigit() for word in words) or int(words[1]) == 0:
        return None  # "max 100000": no limit
    quota, period = map(int, words)
    return max(-(-quota // period), 1)
