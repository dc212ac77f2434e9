"""Threshold and dilation of a network: those that were asked for, or its checkpoint's, or m2a's."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple

from m2a.errors import CheckpointError, UsageError
from m2a.models.checkpoint import mask_settings
from m2a.runtime.manifest import DEFAULT_DILATE, DEFAULT_THRESHOLD, MAX_DILATE


class MaskDefaults(NamedTuple):
    """How a mask follows from the probability.

    Attributes:
        threshold: a pixel is active where its probability is at least this, in (0, 1).
        dilate: radius in pixels by which the mask is then dilated.
    """

    threshold: float
    dilate: int


def mask_defaults(
    header: Mapping[str, Any], path: Path, *, threshold: float | None, dilate: int | None
) -> MaskDefaults:
    """Takes what was asked for, else what the checkpoint's header says, else 0.5 and 4.

    Args:
        header: the checkpoint's, from `open_checkpoint`.
        path: the checkpoint's name, for messages.
        threshold: asked for, or None.
        dilate: asked for, or None.

    Raises:
        UsageError: what was asked for is out of range.
        CheckpointError: what the header says is.
    """
    asked = {"threshold": threshold, "dilate": dilate}
    for name, value in asked.items():
        if value is not None and not _allowed(name, value):
            raise UsageError(f"expected {_RANGES[name]}, found {value}")
    said = mask_settings(header)
    for name, value in said.items():
        if not _allowed(name, value):
            raise CheckpointError(
                f"{path}: expected {_RANGES[name]}, its header says {value!r:.40}"
            )
    chosen = {**said, **{name: value for name, value in asked.items() if value is not None}}
    return MaskDefaults(
        threshold=float(chosen.get("threshold", DEFAULT_THRESHOLD)),
        dilate=int(chosen.get("dilate", DEFAULT_DILATE)),
    )


_RANGES = {
    "threshold": "a threshold between 0 and 1, both excluded",
    "dilate": f"a dilation of 0 to {MAX_DILATE} pixels",
}


def _allowed(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return False
    if name == "dilate":
        return isinstance(value, Integral) and 0 <= int(value) <= MAX_DILATE
    # Not by way of float: JSON's integers may be too large for one.
    return isinstance(value, Real) and bool(0 < value < 1)  # type: ignore[operator]
