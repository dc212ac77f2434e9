"""Quality metrics: PSNR, SSIM, how well a mask was found, and how well the motion."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2a.extras import needing_extra

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


PERFECT = 100.0
"""dB: more than any picture of 8 bits that differs in one value reaches in practice."""


def finite_psnr(decibels: float) -> float:
    """A PSNR to subtract or average: that of a perfect picture counts as 100 dB."""
    return min(decibels, PERFECT)


SSIM_WINDOW = 11
"""Side of the Gaussian window (σ = 1.5) of SSIM in pixels; no smaller picture has a value."""


def ssim_map(picture: Samples, truth: Samples) -> NDArray[np.float64]:
    """Structural similarity around every pixel (Wang et al. 2004), mean of the channels.

    Its mean over a mask is the SSIM that ReLoBlur weights by the blur mask; its mean over the
    picture is close to the usual SSIM, which leaves out a border of 5 pixels.

    Args:
        picture: uint8 or uint16 [H, W, C].
        truth: of the same dtype and shape.

    Returns:
        float64 [H, W], at most 1.

    Raises:
        ValueError: a side is shorter than 11 pixels.
        MissingDependencyError: scikit-image is not installed.
    """
    with needing_extra("eval", purpose="SSIM"):
        from skimage.metrics import structural_similarity
    if min(picture.shape[:2]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs sides of at least {SSIM_WINDOW} px, found {picture.shape}")
    _, similarity = structural_similarity(
        truth,
        picture,
        data_range=float(np.iinfo(picture.dtype).max),
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    mean: NDArray[np.float64] = similarity.mean(axis=2, dtype=np.float64)
    return mean


STANDSTILL = 1.0
"""Pixels: a linear coefficient a shorter than this has no direction worth measuring."""


def angle_errors(motion: NDArray[np.float32], truth: NDArray[np.float32]) -> NDArray[np.float64]:
    """Angles between predicted and true motion, modulo 180°: a and -a give the same blur.

    Args:
        motion: f32 [..., 4], predicted (a_x, a_y, b_x, b_y) in pixels; NaN where there is none.
        truth: of the same shape; NaN where nothing moves.

    Returns:
        float64 [N] of degrees, 0 to 90, where both are known and the true |a| is at least 1 px;
        a prediction that stands still counts as 90.
    """
    predicted, true = (m[..., :2].astype(np.float64).reshape(-1, 2) for m in (motion, truth))
    length = np.linalg.norm(true, axis=1)
    known = np.isfinite(predicted).all(axis=1) & (length >= STANDSTILL)
    predicted, true, length = predicted[known], true[known], length[known]
    product = np.abs((predicted * true).sum(axis=1))
    norms = np.linalg.norm(predicted, axis=1) * length
    cosine = np.divide(product, norms, out=np.zeros_like(norms), where=norms > 0)
    degrees: NDArray[np.float64] = np.degrees(np.arccos(np.clip(cosine, 0, 1)))
    return degrees


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
