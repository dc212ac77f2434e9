"""What became of a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from m2a.errors import M2AError

__all__ = ["DONE", "FAILED", "SKIPPED", "Outcome", "reason_of"]

DONE, SKIPPED, FAILED = "done", "skipped", "failed"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one picture.

    Attributes:
        source: the picture to read.
        output: the deblurred picture to write; None where the source is a folder that could not
            be looked into.
        status: `DONE`, `SKIPPED` because all of its files exist, or `FAILED`.
        reason: why it failed, with the name of the source; None if it did not.
        replaced: whether it is skipped because an interrupted run had replaced it already.
        coverage: restored pixels / all pixels, 0 to 1; None unless it is done.
        pixels: of the whole picture, H·W; None unless it is done.
        highest_probability: of visible motion blur, over all pixels, 0 to 1; None unless it is
            done, where the mask was given, and of a video.
        threshold: the probability from which a pixel is restored; None as before.
        backend: who computed; None unless it is done.
        precision: of the graphs; None as before.
        precision_reason: why that one; None as before.
        ensemble: turns over which the mean was taken; None as before.
        seconds: wall time per stage, from reading to writing; empty unless it is done.
        copied: whether the output is the source, byte for byte, as nothing was restored and to
            encode it again would lose.
    """

    source: Path
    output: Path | None
    status: str
    reason: str | None = None
    replaced: bool = False
    coverage: float | None = None
    pixels: int | None = None
    highest_probability: float | None = None
    threshold: float | None = None
    backend: str | None = None
    precision: str | None = None
    precision_reason: str | None = None
    ensemble: int | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    copied: bool = False


def reason_of(source: Path | str, error: M2AError | OSError | MemoryError) -> str:
    """Why a picture failed, with its name."""
    reason = str(error)
    if isinstance(error, MemoryError):
        reason = "out of memory; take a smaller picture or a smaller mask"
    elif isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        reason = f"{place}{error.strerror or error}"
    return reason if str(source) in reason else f"{source}: {reason}"
