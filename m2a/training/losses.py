"""The losses: reconstruction inside the mask, the trajectories where they are known, the mask.

The reblur loss stands in `m2a.training.reblur`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ERROR_FLOOR = 1e-4
"""Mean squared error, 40 dB, below which a crop counts as restored."""

CHARBONNIER = 1e-3
"""Display value around which the absolute error is rounded off."""

_STANDSTILL = 2.0
"""Pixels added to a trajectory's length, relative to which its error counts."""


def reconstruction_loss(
    restored: Tensor, sharp: Tensor, crop: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Mean over crops of log10(mean squared error inside the mask + 1e-4).

    It is the PSNR that is measured in the end, crop by crop. An absolute error would be ruled by
    the few crops with long blur and high contrast, where little can be gained, and its median
    answer to doubt is to change nothing: after the same 400 short steps it gained 0.11 dB where
    this gained 0.17.

    Args:
        restored: f32 [N, 3], display-referred, not clipped.
        sharp: f32 [N, 3].
        crop: int64 [N], the crop that each pixel belongs to; every crop from 0 to the last one
            has at least one.
        weight: f32 [N], not negative, of each pixel in its crop's mean; every crop has a positive
            one. None: all alike.

    Returns:
        A scalar, at least log10(1e-4).
    """
    errors = (restored - sharp).square().mean(dim=1)
    return torch.log10(_crop_means(errors, crop, weight) + ERROR_FLOOR).mean()


def charbonnier_loss(
    restored: Tensor, sharp: Tensor, crop: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Mean over crops of the mean of sqrt(error² + 0.001²) inside the mask (paper: reconstruction).

    The arguments are those of `reconstruction_loss`.
    """
    return _crop_means(charbonnier(restored - sharp), crop, weight).mean()


def charbonnier(difference: Tensor) -> Tensor:
    """Absolute values, rounded off at zero, averaged over the channels: [N, 3] → [N]."""
    errors: Tensor = (difference.square() + CHARBONNIER**2).sqrt().mean(dim=1)
    return errors


def frequency_loss(restored: Tensor, sharp: Tensor, sites: Tensor, side: int) -> Tensor:
    """Mean absolute value of the spectrum of the error, which is zero outside the mask.

    The spectrum is scaled so that white noise of standard deviation σ inside the mask gives about
    0.89 σ, the mean absolute value of a complex normal variable, whatever the mask's size.

    Args:
        restored: f32 [N, 3], display-referred, not clipped.
        sharp: f32 [N, 3].
        sites: int64 [N, 3], the crop, y and x of each pixel.
        side: S, of the square crops, pixels.

    Returns:
        A scalar, the mean over the crops that have a pixel.
    """
    crop, y, x = sites.unbind(dim=1)
    pixels = torch.bincount(crop)
    error = restored.new_zeros((len(pixels), side, side, 3))
    error = error.index_put((crop, y, x), restored - sharp)
    spectrum = torch.fft.fft2(error, dim=(1, 2), norm="ortho")
    mean = _moduli(spectrum).mean(dim=(1, 2, 3))
    some = pixels > 0
    scale = (pixels.clamp_min(1) / side**2).sqrt()
    return ((mean / scale) * some).sum() / some.sum().clamp_min(1)


def _moduli(spectrum: Tensor) -> Tensor:
    """Absolute values, with a gradient at zero too."""
    moduli: Tensor = (spectrum.real.square() + spectrum.imag.square() + 1e-12).sqrt()
    return moduli


def _crop_means(errors: Tensor, crop: Tensor, weight: Tensor | None) -> Tensor:
    """Weighted means of f32 [N] over the pixels of each crop."""
    if weight is not None:
        errors = errors * weight
    total = torch.bincount(crop, weight)
    return errors.new_zeros(len(total)).index_add(0, crop, errors) / total


def trajectory_loss(motion: Tensor, truth: Tensor) -> Tensor:
    """Relative end-point error of the trajectories, where the truth is known.

    Only synthetic samples know it. The reblur loss, which needs no truth, turned the trajectories
    too slowly for a training on a CPU: with either for 1,200 steps from the same weights, the
    motion head anew, the mean of the crops' median angle errors came to 43° and to 37°, where
    chance is 45°.

    Args:
        motion: f32 [N, 4], predicted (a_x, a_y, b_x, b_y), pixels.
        truth: f32 [N, 4]; NaN where unknown.

    Returns:
        The mean of (|a - s·a'| + |b - b'|) / (|a'| + 2 px), a scalar, where s = ±1 is the sign of
        a · a': a trajectory run backwards, (-a', b'), blurs alike. 0 where nothing is known.
    """
    known = truth.isfinite().all(dim=1)
    if not known.any():
        return motion.sum() * 0
    predicted, true = motion[known], truth[known]
    sign = torch.where((predicted[:, :2] * true[:, :2]).sum(dim=1, keepdim=True) < 0, -1.0, 1.0)
    linear = _length(predicted[:, :2] - sign * true[:, :2])
    quadratic = _length(predicted[:, 2:] - true[:, 2:])
    relative: Tensor = (linear + quadratic) / (_length(true[:, :2]) + _STANDSTILL)
    return relative.mean()


def _length(vectors: Tensor) -> Tensor:
    """Euclidean lengths, with a gradient at zero too."""
    lengths: Tensor = (vectors.square().sum(dim=1) + 1e-4).sqrt()
    return lengths


def mask_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy plus Dice loss over the pixels that have a label.

    Args:
        logits: f32 [B, 1, H, W].
        target: f32 [B, 1, H, W], 1 where blur is visible, 0 elsewhere.
        weight: f32 [B, 1, H, W], 0 where either answer is right, else positive.

    Returns:
        A scalar. Half of the Dice part is taken over the whole batch, so that a crop without blur
        counts as well; half is the mean over the crops with blur, as masks are judged in the end:
        over the batch alone, few large objects with long blur outweigh many small ones.
    """
    labelled = weight.sum().clamp_min(1.0)
    entropy = F.binary_cross_entropy_with_logits(logits, target, weight, reduction="sum")
    probability = logits.sigmoid() * weight
    overlap, predicted, true = (
        plane.sum(dim=(1, 2, 3)) for plane in (probability * target, probability, target * weight)
    )
    whole = _dice(overlap.sum(), predicted.sum(), true.sum())
    blurred = (true > 0).to(logits.dtype)
    crops = (_dice(overlap, predicted, true) * blurred).sum() / blurred.sum().clamp_min(1.0)
    return entropy / labelled + 0.5 * (whole + crops)


def _dice(overlap: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
    """Dice loss of sums over pixels; 0 where nothing is true and nothing predicted."""
    return 1 - (2 * overlap + 1) / (predicted + true + 1)
