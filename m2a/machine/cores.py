"""The processor's cores that this process may use."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Counts them: what a container or `taskset` leaves, or all where the system does not tell."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
