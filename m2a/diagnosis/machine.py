"""The machine: Python, operating system, processor, memory."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from m2a.diagnosis.finding import Finding, broken, good, missing
from m2a.machine.cores import usable_cores
from m2a.machine.memory import read_memory

OLDEST_PYTHON = (3, 10)

LITTLE_MEMORY = 512 * 10**6
"""Bytes; the interpreter, the graphs and a small photo need about half of it."""

_ROOT = Path("/")

_FEATURES = (
    *("avx2", "fma", "f16c", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16"),
    *("amx_int8", "amx_bf16"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve"),
)
"""What ONNX Runtime's kernels ask for, as Linux names it, x86 first and then Arm."""


def python_finding(
    version: tuple[int, ...] = sys.version_info[:3], *, executable: str = sys.executable
) -> Finding:
    """Judges the interpreter."""
    numbers = ".".join(map(str, version))
    found = f"{numbers} ({platform.python_implementation()}), {executable}"
    if version[:2] < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return broken("Python", found, f"install Python {oldest} or newer")
    return good("Python", found)


def system_finding() -> Finding:
    """Names the operating system."""
    return good("operating system", f"{platform.platform()}, {platform.machine()}")


def processor_finding(*, root: Path = _ROOT, machine: str = platform.machine()) -> Finding:
    """Names the processor and those of its features that decide how fast the graphs run.

    Args:
        root: where `/proc` and `/sys` lie.
        machine: the architecture.
    """
    cores = f"{usable_cores(root=root)} of {os.cpu_count()} cores"
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        name = platform.processor() or machine
        return missing("CPU", f"{name}, {cores}; its features are unknown on this system")
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name") or machine
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    features = [feature for feature in _FEATURES if feature in flags]
    found = f"{name}, {cores}; {' '.join(features) or 'no vector features that matter'}"
    if machine.lower() in ("x86_64", "amd64") and "avx2" not in flags:
        return missing("CPU", f"{found}; without AVX2 the network is slow")
    return good("CPU", found)


def memory_finding(*, root: Path = _ROOT) -> Finding:
    """Tells the memory that a program may still take.

    Args:
        root: where `/proc` and `/sys` lie.
    """
    topic = "memory"
    memory = read_memory(root=root)
    if memory is None:
        return missing(topic, "unknown on this system")
    found = f"{_gigabytes(memory.available)} of {_gigabytes(memory.total)} available"
    if memory.limit is not None:
        found += f"; this process may still take {_gigabytes(memory.free)}"
    if memory.free < LITTLE_MEMORY:
        return broken(topic, found, "close other programs, or allow the container more memory")
    return good(topic, found)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
