"""Losses of the first training stage: masked reconstruction, and the mask.

The reblur loss and the straight-through stage of the paper are not part of this stage.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CHARBONNIER_EPSILON = 1e-3


def reconstruction_loss(restored: Tensor, sharp: Tensor) -> Tensor:
    """Charbonnier distance over active pixels: mean of √(Δ² + ε²) - ε, ε = 1e-3.

    Args:
        restored: f32 [N, 3], display-referred, not clipped.
        sharp: f32 [N, 3].

    Returns:
        A scalar, zero where both are equal, about the mean absolute error elsewhere.
    """
    epsilon = CHARBONNIER_EPSILON
    return (torch.sqrt((restored - sharp).square() + epsilon**2) - epsilon).mean()


def mask_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy plus Dice loss over the pixels that have a label.

    Args:
        logits: f32 [B, 1, H, W].
        target: f32 [B, 1, H, W], 1 where blur is visible, 0 elsewhere.
        weight: f32 [B, 1, H, W], 0 where either answer is right, else 1.

    Returns:
        A scalar. The Dice part is taken over the whole batch, so that a crop without blur
        counts as well.
    """
    labelled = weight.sum().clamp_min(1.0)
    entropy = F.binary_cross_entropy_with_logits(logits, target, weight, reduction="sum")
    probability = logits.sigmoid() * weight
    overlap = 2 * (probability * target).sum() + 1
    dice = 1 - overlap / (probability.sum() + (target * weight).sum() + 1)
    return entropy / labelled + dice
