"""Photos whose before and after are known colours, and how a page of them was made."""

from __future__ import annotations

import functools
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from m2a.reports import Provenance, Shown
from m2a.reports.layers import draw_layers
from m2a.runtime.bundle import PACKAGED, open_bundle
from m2a.runtime.photo import Photo
from m2a.runtime.result import Result

RED, BLUE = (200, 40, 40), (40, 40, 200)
"""A photo's colour before, and that of its restored pixels after."""


def deblurred(pixels: np.ndarray, mask: np.ndarray, colour=BLUE) -> Result:
    """A result that is `colour` inside the mask; its cells there moved to the right and down."""
    height, width = (-(-side // 32) * 32 for side in mask.shape)
    image = pixels.copy()
    image[mask] = colour
    padded = np.zeros((height, width), bool)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    active = padded.reshape(height // 4, 4, width // 4, 4).any(axis=(1, 3))
    motion = np.full((*active.shape, 4), np.nan, np.float32)
    motion[active] = (6, 4, 0, 2)
    return Result(
        image=image,
        mask=mask,
        probability=mask.astype(np.float32),
        coverage=float(mask.mean()),
        motion=motion,
        seconds={"mask": 0.02, "restore": 0.3},
        backend="ort-cpu",
    )


@functools.cache
def shown(
    name: str = "photo.png", *, size: tuple[int, int] = (160, 240), restored: bool = True
) -> Shown:
    """A red photo [H, W] whose pixels are restored to blue but for a margin of an eighth."""
    pixels = np.full((*size, 3), RED, np.uint8)
    mask = np.zeros(size, bool)
    if restored:
        y, x = size[0] // 8, size[1] // 8
        mask[y:-y, x:-x] = True
    result = deblurred(pixels, mask)
    return Shown(
        source=Path(name),
        size=(size[1], size[0]),
        bits=8,
        format="PNG",
        coverage=result.coverage,
        highest_probability=result.highest_probability,
        backend=result.backend,
        seconds=result.seconds,
        layers=draw_layers(Photo(pixels=pixels), result),
    )


def provenance(**changes) -> Provenance:
    values = {
        "bundle": open_bundle(PACKAGED, origin="packaged with m2a"),
        "precision": "fp32",
        "threshold": 0.25,
        "dilate": 7,
        "ensemble": 1,
        "mask": None,
        "versions": {"python": "3.11"},
        "made": datetime(2026, 1, 2, 3, 4, tzinfo=timezone.utc),
    }
    return Provenance(**values | changes)
