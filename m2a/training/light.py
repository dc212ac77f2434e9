"""From display values to linear light and back: the sRGB transfer function, by tables."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from m2a.training.opencv import cv2

_LEVELS = 65535


def _decoding_table() -> NDArray[np.float32]:
    value = np.arange(256) / 255.0
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32)


def _encoding_table() -> NDArray[np.float32]:
    linear = np.arange(_LEVELS + 1) / _LEVELS
    value = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return value.astype(np.float32)


DECODING = _decoding_table()
"""Linear light, f32 [256], of every 8-bit sRGB value."""

_ENCODING = _encoding_table()


def to_linear(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Linear light of an sRGB image.

    Args:
        image: uint8 [H, W, 3], sRGB.

    Returns:
        float32 [H, W, 3] in [0, 1], linear.
    """
    linear: NDArray[np.float32] = cv2.LUT(image, DECODING)
    return linear


def to_display(
    linear: NDArray[np.float32], *, gamma: float = 1.0, contrast: float = 1.0
) -> NDArray[np.float32]:
    """Display values of linear light, clipped to [0, 1] first, with an optional tone curve.

    Args:
        linear: float32, any shape, linear light; precise to 1/65535.
        gamma: exponent applied to the sRGB values.
        contrast: slope about mid-grey applied after it; the result is clipped again.

    Returns:
        float32 of the same shape, in [0, 1].
    """
    table = _ENCODING
    if gamma != 1.0 or contrast != 1.0:
        toned = (table ** np.float32(gamma) - np.float32(0.5)) * np.float32(contrast)
        table = np.clip(toned + np.float32(0.5), 0.0, 1.0)
    level = np.clip(linear, 0.0, 1.0) * np.float32(_LEVELS) + np.float32(0.5)
    return table[level.astype(np.uint16)]
