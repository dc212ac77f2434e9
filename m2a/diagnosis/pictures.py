"""libvips: its version, and the picture formats that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from m2a.diagnosis.finding import Finding, broken, good, missing
from m2a.machine.separate_process import ask

OLDEST_LIBVIPS = (8, 15)

INDISPENSABLE = ("JPEG", "PNG", "TIFF", "WebP")

_REMEDY = "pip install 'pyvips[binary]'"


def libvips_finding(*, seconds: float = 60) -> Finding:
    """Judges the libvips of this installation, which is loaded in a process of its own."""
    reply = ask(__name__, "query_libvips", seconds=seconds)
    if reply.answer is None:
        return broken("libvips", reply.failure, _REMEDY)
    return judge_libvips(
        tuple(reply.answer["version"]), reply.answer["formats"], known=reply.answer["known"]
    )


def query_libvips() -> dict[str, Any]:
    """Loads libvips in this process; returns the arguments of `judge_libvips`.

    Raises:
        ImageError: it cannot be loaded.
    """
    from m2a.runtime.decoding import FORMATS, readable_formats
    from m2a.runtime.vips import load_vips

    vips = load_vips()
    version = [vips.version(part) for part in range(3)]
    return {"version": version, "formats": readable_formats(), "known": FORMATS}


def judge_libvips(
    version: tuple[int, ...], formats: Sequence[str], *, known: Sequence[str]
) -> Finding:
    """Judges a version of libvips and the formats that it reads.

    Args:
        version: major, minor, micro.
        formats: those that it reads.
        known: those that m2a would read.
    """
    number = ".".join(map(str, version))
    absent = [name for name in known if name not in formats]
    found = f"{number} reads {', '.join(formats) or 'nothing'}"
    if absent:
        found += f"; it lacks {', '.join(absent)}"
    if version < OLDEST_LIBVIPS:
        oldest = ".".join(map(str, OLDEST_LIBVIPS))
        return broken("libvips", f"{found}; m2a needs {oldest} or newer", _REMEDY)
    if set(absent) & set(INDISPENSABLE):
        return broken("libvips", found, _REMEDY)
    if absent:
        return missing("libvips", found, _REMEDY)
    return good("libvips", found)
