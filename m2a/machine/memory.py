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
        limit: what the container may take in all, or None where it has no limit below `total`.
        used: what of the limit is taken and cannot be given back at once; 0 without a limit.
    """

    total: int
    available: int
    limit: int | None
    used: int = 0

    @property
    def free(self) -> int:
        """What this process may count on."""
        if self.limit is None:
            return self.available
        return min(self.available, max(self.limit - self.used, 0))


def read_memory(*, root: Path = _ROOT) -> Memory | None:
    """Reads the machine's memory.

    Of a container's limit only what cgroup v2 tells at the root of its file system is read, which
    is what Docker and Podman show inside: not cgroup v1, and not the limit of a service or slice
    further down.

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
    group = root / "sys/fs/cgroup"
    limit = _number(_text(group / "memory.max"))
    if limit is None or limit >= total:
        return Memory(total=total, available=available, limit=None)
    return Memory(total=total, available=available, limit=limit, used=_used(group))


def _used(group: Path) -> int:
    current = _number(_text(group / "memory.current")) or 0
    fields = dict(line.split(maxsplit=1) for line in _text(group / "memory.stat").splitlines())
    # Files that were read and are not in use count as taken, but make room for whoever asks.
    return max(current - (_number(fields.get("inactive_file", "")) or 0), 0)


def _number(text: str) -> int | None:
    return int(text) if text.strip().isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
