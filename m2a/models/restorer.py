"""The restorer in its masked dense form: the definition that every other form must equal.

Every feature map at level l is multiplied by M_l, the mask at that level, so a neighbour outside
the mask contributes exactly zero: the convolutions are submanifold sparse convolutions, written
densely. `m2a.models.gathered` computes the same numbers at the active sites alone.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2a.models.config import LEVELS, MAX_LINEAR, MAX_QUADRATIC, MOTION_LEVEL, M2AENetConfig

NORM_EPSILON = 1e-6
STEM_RADIUS = 2
"""The stem reads a (2·2 + 1)² = 5×5 neighbourhood."""


class Restoration(NamedTuple):
    """What the restorer returns.

    Attributes:
        residual: f32, added to the image at active pixels. [B, 3, H, W], zero elsewhere, in the
            masked dense form; [N0, 3] in the gathered form.
        motion: f32, the coefficients (a_x, a_y, b_x, b_y) of the trajectory
            d(t) = a·t + b·t², t ∈ [-1, 1], in full-resolution pixels, at level 2.
            [B, 4, H/4, W/4], zero where inactive, or [N_2, 4].
    """

    residual: Tensor
    motion: Tensor


class ChannelNorm(nn.Module):
    """Layer norm over the channels of a feature map, with a scale and no shift.

    Without a shift a zero site stays zero, and the scale folds into the next convolution exactly
    even where neighbours are absent.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Maps f32 [B, C, h, w] to the same shape."""
        channels_last = x.permute(0, 2, 3, 1)
        out = F.layer_norm(channels_last, self.weight.shape, self.weight, None, NORM_EPSILON)
        return out.permute(0, 3, 1, 2)


class RepConv(nn.Module):
    """C→2C convolution with parallel branches: 3×3 (the only bias), 1×1, identity on both halves.

    The branches help training; `m2a.models.reparameterize` fuses them into one 3×3 kernel.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv3 = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.conv1 = nn.Conv2d(channels, 2 * channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps f32 [B, C, h, w] to [B, 2C, h, w]."""
        out: Tensor = self.conv3(x) + self.conv1(x) + torch.cat([x, x], dim=1)
        return out


class Block(nn.Module):
    """Norm → RepConv → gate → 1×1 → residual with a learned scale."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.conv = RepConv(channels)
        self.project = nn.Conv2d(channels, channels, 1)
        self.scale = nn.Parameter(torch.full((channels,), 0.1))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Maps masked f32 [B, C, h, w] to the same shape, given its mask [B, 1, h, w]."""
        left, right = self.conv(self.norm(x)).chunk(2, dim=1)
        update = self.project(left * right) * self.scale[:, None, None]
        out: Tensor = x + mask * update
        return out


class Blocks(nn.ModuleList):
    """The blocks of one level, one after the other."""

    def forward(self, x: Tensor, *sites: Tensor | None) -> Tensor:
        """Runs the blocks; `sites` is what they take beside the features: mask or neighbours."""
        for block in self:
            x = block(x, *sites)
        return x


class MotionAnalyzer(nn.Module):
    """The intra-frame motion analyzer: predicts a trajectory per site and gathers along it."""

    def __init__(self, channels: int, *, points: int) -> None:
        super().__init__()
        self.coefficients = nn.Conv2d(channels, 4, 1)
        self.mix = nn.Conv2d(points * channels, channels, 1)
        self.points = points
        with torch.no_grad():
            # Displacements start within a fraction of a pixel, where tanh has its full slope.
            for parameter in self.coefficients.parameters():
                parameter.mul_(0.1)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Guides the features along the predicted trajectories.

        Args:
            x: masked f32 [B, C, h, w] at level 2.
            mask: f32 [B, 1, h, w].

        Returns:
            The guided features [B, C, h, w] and the motion [B, 4, h, w], zero where inactive.
        """
        motion = mask * bounded_motion(self.coefficients(x), dim=1)
        sampled = [
            sample_displaced(x, displacement(motion, t, dim=1))
            for t in trajectory_times(self.points).tolist()
        ]
        return x + mask * self.mix(torch.cat(sampled, dim=1)), motion


def trajectory_times(points: int) -> Tensor:
    """Returns the f32 [T] times in [-1, 1] at which a trajectory is sampled."""
    return torch.linspace(-1.0, 1.0, points)


def bounded_motion(raw: Tensor, *, dim: int) -> Tensor:
    """Bounds raw coefficients (size 4 along `dim`) so that |d| ≤ 48 pixels per axis."""
    linear, quadratic = raw.tanh().chunk(2, dim=dim)
    return torch.cat([MAX_LINEAR * linear, MAX_QUADRATIC * quadratic], dim=dim)


def displacement(motion: Tensor, t: float, *, dim: int) -> Tensor:
    """Returns d(t) = a·t + b·t² in level-2 sites, (x, y) along `dim`."""
    linear, quadratic = motion.chunk(2, dim=dim)
    offset: Tensor = (linear * t + quadratic * (t * t)) * (1.0 / 2**MOTION_LEVEL)
    return offset


def sample_displaced(x: Tensor, offset: Tensor) -> Tensor:
    """Samples features bilinearly at displaced sites; the outside counts as zero.

    The displacement is split into integer and fraction, never the position: a float absolute
    coordinate loses accuracy with its size, and would make the result depend on where a tile
    lies in the image (DESIGN section 3).

    Args:
        x: f32 [B, C, h, w].
        offset: f32 [B, 2, h, w], (x, y) in sites.

    Returns:
        f32 [B, C, h, w].
    """
    batch, channels, height, width = x.shape
    whole = offset.floor()
    fraction_x, fraction_y = (offset - whole).unbind(dim=1)
    left = torch.arange(width, device=x.device) + whole[:, 0].to(torch.int64)
    top = torch.arange(height, device=x.device)[:, None] + whole[:, 1].to(torch.int64)
    flat = x.reshape(batch, channels, height * width)
    out = torch.zeros_like(x)
    for dy in (0, 1):
        for dx in (0, 1):
            column, row = left + dx, top + dy
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            index = torch.where(inside, row * width + column, 0).reshape(batch, 1, -1)
            corner = flat.gather(2, index.expand(-1, channels, -1)).reshape(x.shape)
            weight_x = fraction_x if dx else 1 - fraction_x
            weight_y = fraction_y if dy else 1 - fraction_y
            out = out + corner * (weight_x * weight_y * inside)[:, None]
    return out


class Restorer(nn.Module):
    """The masked encoder–decoder over four levels (DESIGN section 3)."""

    def __init__(self, config: M2AENetConfig) -> None:
        super().__init__()
        widths = config.widths
        self.stem = nn.Conv2d(3, widths[0], 2 * STEM_RADIUS + 1)
        self.encoder = nn.ModuleList(
            Blocks(Block(width) for _ in range(count))
            for width, count in zip(widths, config.blocks, strict=True)
        )
        self.decoder = nn.ModuleList(
            Blocks(Block(width) for _ in range(count))
            for width, count in zip(widths[:-1], config.blocks[:-1], strict=True)
        )
        self.down = nn.ModuleList(
            nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in itertools.pairwise(widths)
        )
        self.up = nn.ModuleList(
            nn.Conv2d(coarse, 4 * fine, 1) for fine, coarse in itertools.pairwise(widths)
        )
        self.motion = MotionAnalyzer(widths[MOTION_LEVEL], points=config.trajectory_points)
        self.head = nn.Conv2d(widths[0], 3, 1)
        with torch.no_grad():
            for parameter in self.head.parameters():
                parameter.mul_(0.1)  # training starts near the identity

    def forward(self, surroundings: Tensor, mask: Tensor) -> Restoration:
        """Predicts the residual and the motion.

        Args:
            surroundings: f32 [B, 3, H + 4, W + 4], RGB in [0, 1]: the image with two more pixels
                on each side (see `reflect_pad`); H and W multiples of 8.
            mask: f32 [B, 1, H, W], 1 at active pixels and 0 elsewhere.

        Returns:
            The `Restoration`, zero at inactive sites.
        """
        masks = level_masks(mask)
        x = self.stem(surroundings) * masks[0]
        skips = []
        for level in range(LEVELS):
            if level:
                x = self.down[level - 1](x) * masks[level]
            x = self.encoder[level](x, masks[level])
            skips.append(x)
        motion = torch.zeros(0)
        for level in reversed(range(LEVELS - 1)):
            x = skips[level] + masks[level] * F.pixel_shuffle(self.up[level](x), 2)
            if level == MOTION_LEVEL:
                x, motion = self.motion(x, masks[level])
            x = self.decoder[level](x, masks[level])
        return Restoration(residual=masks[0] * self.head(x), motion=motion)


def level_masks(mask: Tensor) -> list[Tensor]:
    """Returns M_0…M_3: the mask and its 2×2 max-pools, each f32 [B, 1, H/2^l, W/2^l]."""
    masks = [mask]
    for _ in range(LEVELS - 1):
        masks.append(F.max_pool2d(masks[-1], 2))
    return masks
