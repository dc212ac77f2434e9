"""The reblur loss: the sharp picture, blurred along the predicted trajectories, is the input.

It supervises the motion analyzer without knowing the true motion (paper: reblur loss): where the
trajectory is right, averaging the truth along it gives what the camera saw. A trajectory and its
reverse blur alike, so its sign is free.
"""

from __future__ import annotations

import torch
from torch import Tensor

from m2a.models.gathered import Tables
from m2a.models.restorer import trajectory_times
from m2a.training.light import DECODING
from m2a.training.losses import charbonnier

EXPOSURE_POINTS = 15
"""Points at which a trajectory is sampled: every 4 pixels on one of 60."""

_LINEAR_BELOW = 0.0031308


def pixel_motion(motion: Tensor, tables: Tables) -> Tensor:
    """Spreads the motion of the level-2 sites to the active pixels: [N_2, 4] → [N_0, 4]."""
    parent = tables.parents[1].index_select(0, tables.parents[0] // 4) // 4
    return motion.index_select(0, parent)


def linear_light(images: Tensor) -> Tensor:
    """Linear light, f32 of the same shape, of uint8 sRGB values."""
    return torch.from_numpy(DECODING).to(images.device)[images.to(torch.int64)]


def reblur(sharp: Tensor, sites: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
    """Averages the sharp picture along trajectories: B(p) = mean over t of S(p + d_p(t)).

    Args:
        sharp: f32 [B, H, W, 3], *linear* light at mid-exposure.
        sites: int64 [N, 3], the crop, y and x of each pixel.
        motion: f32 [N, 4], (a_x, a_y, b_x, b_y) of d(t) = a·t + b·t², t in [-1, 1], pixels.

    Returns:
        f32 [N, 3], linear light, and bool [N]: whether the whole trajectory stays in its crop,
        beyond which nothing is known of the scene.
    """
    height, width = sharp.shape[1:3]
    crop, y, x = (column[:, None] for column in sites.unbind(dim=1))
    t = trajectory_times(EXPOSURE_POINTS).to(motion)
    offset_x = motion[:, 0:1] * t + motion[:, 2:3] * t.square()
    offset_y = motion[:, 1:2] * t + motion[:, 3:4] * t.square()
    whole_x, whole_y = offset_x.detach().floor(), offset_y.detach().floor()
    left, top = x + whole_x.to(torch.int64), y + whole_y.to(torch.int64)
    inside = (left >= 0) & (left + 1 < width) & (top >= 0) & (top + 1 < height)
    fraction_x, fraction_y = (offset_x - whole_x)[..., None], (offset_y - whole_y)[..., None]
    rows = sharp.reshape(-1, 3)
    light = motion.new_zeros(())
    for dy in (0, 1):
        for dx in (0, 1):
            column, row = (left + dx).clamp(0, width - 1), (top + dy).clamp(0, height - 1)
            index = ((crop * height + row) * width + column).reshape(-1)
            corner = rows.index_select(0, index).reshape(*left.shape, 3)
            weight_x = fraction_x if dx else 1 - fraction_x
            weight_y = fraction_y if dy else 1 - fraction_y
            light = light + corner * (weight_x * weight_y)
    return light.mean(dim=1), inside.all(dim=1)


def reblur_loss(blurred: Tensor, sharp: Tensor, sites: Tensor, motion: Tensor) -> Tensor:
    """Mean absolute difference (Charbonnier) of the reblurred truth and the blurred input.

    Args:
        blurred: f32 [N, 3] in [0, 1], display-referred: the input at the active pixels.
        sharp: f32 [B, H, W, 3], linear light.
        sites: int64 [N, 3], the crop, y and x of each pixel.
        motion: f32 [N, 4], the predicted trajectory of each pixel.

    Returns:
        A scalar, compared in display values, as errors are seen; 0 where every trajectory leaves
        its crop.
    """
    light, inside = reblur(sharp, sites, motion)
    error = charbonnier(to_display(light) - blurred)
    return (error * inside).sum() / inside.sum().clamp_min(1)


def to_display(linear: Tensor) -> Tensor:
    """The sRGB transfer function of f32 linear light in [0, 1], differentiable."""
    # The power's slope is infinite at 0: clamp on the side that is not taken.
    curve = 1.055 * linear.clamp_min(_LINEAR_BELOW) ** (1 / 2.4) - 0.055
    return torch.where(linear <= _LINEAR_BELOW, 12.92 * linear, curve)
