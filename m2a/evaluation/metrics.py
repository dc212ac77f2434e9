"""Quality metrics in NumPy: PSNR inside a mask, and how well a mask was found."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.uint8 | np.uint16]


def psnr(picture: Samples, truth: Samples, mask: NDArray[np.bool_]) -> float:
    """Peak signal-to-noise ratio over the pixels of a mask.

    Args:
        picture: uint8 or uint16 [H, W, C].
        truth: of the same dtype and shape.
        mask: bool [H, W], not empty.

    Returns:
        10 · log10(white² / mean squared error) in dB over all channels, white = 255 or 65535;
        infinite where equal.

    Raises:
        ValueError: the mask is empty.
    """
    if not mask.any():
        raise ValueError("PSNR inside an empty mask has no value")
    white = float(np.iinfo(picture.dtype).max)
    difference = picture[mask].astype(np.float64) - truth[mask].astype(np.float64)
    error = float(np.square(difference).mean())
    return math.inf if error == 0 else 10 * math.log10(white**2 / error)


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """How a predicted mask covers a true one, in pixels.

    Attributes:
        both: in both.
        predicted: in the predicted mask.
        true: in the true mask.
    """

    both: int
    predicted: int
    true: int

    @property
    def iou(self) -> float:
        """Intersection over union; 1 where both masks are empty."""
        union = self.predicted + self.true - self.both
        return self.both / union if union else 1.0

    @property
    def precision(self) -> float:
        """Share of the predicted pixels that are true; 1 where none is predicted."""
        return self.both / self.predicted if self.predicted else 1.0

    @property
    def recall(self) -> float:
        """Share of the true pixels that are predicted; 1 where none is true."""
        return self.both / self.true if self.true else 1.0


def overlap(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> Overlap:
    """Counts the overlap of two masks of one shape."""
    return Overlap(
        both=int((predicted & true).sum()), predicted=int(predicted.sum()), true=int(true.sum())
    )
