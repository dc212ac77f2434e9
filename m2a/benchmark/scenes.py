"""Pictures to time: noise, and masks of an exact coverage in a few large blobs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_WAVES = 24
_BLOBS = (1.5, 5.0)
"""How often a wave of the field repeats over the longer side: the masks' blobs are that large."""


def noise_picture(height: int, width: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Returns uint8 [H, W, 3]; the network's time does not depend on what is in a picture."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def blob_mask(height: int, width: int, coverage: float, *, seed: int = 0) -> NDArray[np.bool_]:
    """Draws a mask of an exact coverage.

    Args:
        height: H, pixels.
        width: W, pixels.
        coverage: active pixels / all pixels, above 0 and at most 1.
        seed: of the blobs' places; masks of one seed grow with the coverage.

    Returns:
        bool [H, W] with round(coverage · H · W) active pixels, at least one.

    Raises:
        ValueError: the coverage is out of its range.
    """
    if not 0 < coverage <= 1:
        raise ValueError(f"the coverage must lie in (0, 1], found {coverage}")
    rng = np.random.default_rng(seed)
    longer = max(height, width)
    y, x = np.arange(height) / longer, np.arange(width) / longer
    field = np.zeros((height, width), np.float32)
    for angle, repeats, phase in zip(
        rng.uniform(0, np.pi, _WAVES),
        rng.uniform(*_BLOBS, _WAVES),
        rng.uniform(0, 2 * np.pi, _WAVES),
        strict=True,
    ):
        along = 2 * np.pi * repeats * (np.sin(angle) * y[:, None] + np.cos(angle) * x[None, :])
        field += np.cos(along + phase).astype(np.float32)
    count = max(1, round(coverage * height * width))
    mask = np.zeros(height * width, bool)
    mask[np.argpartition(field.reshape(-1), -count)[-count:]] = True
    return mask.reshape(height, width)
