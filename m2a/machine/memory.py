"""The memory that a program may still take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/")


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Sizes in bytes.

    Attributes:
        total: of the machine.
        available: what programs may take before the machine swaps, as the system estimates it.
        limit: what the container may take, or None where it has no limit below `total`.
    """

    total: int
    available: int
    limit: int | None

    @property
    def free(self) -> int:
        """What this process may count on."""
        return self.available if self.limit is None else min(self.available, self.limit)


def read_memory(*, root: Path = _ROOT) -> Memory | None:
    """Reads the machine's memory.

    Args:
        root: where `/proc` and `/sys` lie.

    Returns:
        The sizes, or None where the system does not tell them as Linux does.
    """
    try:
        lines = (root / "proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines if ":" in line}
    if not {"MemTotal", "MemAvailable"} <= kilobytes.keys():
        return None
    total, available = (kilobytes[name] * 1024 for name in ("MemTotal", "MemAvailable"))
    limit = _container_limit(root)
    return Memory(
        total=total,
        available=available,
        limit=limit if limit is not None and limit < total else None,
    )


def _container_limit(root: Path) -> int | None:
    try:
        text = (root / "sys/fs/cgroup/memory.max").read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
