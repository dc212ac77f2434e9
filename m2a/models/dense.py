"""The restorer over every pixel, its branches fused: for masks that leave out next to nothing.

It computes what the masked dense form does at active sites; what it computes elsewhere means
nothing. So features need not be zero at inactive sites, as long as no active site reads them: the
mask enters into the reciprocal deviation by which each 3×3 convolution's input is multiplied
anyway, and into what is sampled and what goes down a level. That costs next to nothing, so it is
the best that a dense runtime can be given of the same network, and pruning is measured against it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2a.models.config import LEVELS, MOTION_LEVEL
from m2a.models.reparameterize import fuse_block_kernel
from m2a.models.restorer import (
    NORM_EPSILON,
    Block,
    MotionAnalyzer,
    Restorer,
    bounded_motion,
    displacement,
    trajectory_times,
)


class DenseBlock(nn.Module):
    """`Block` with fused branches: norm without scale → 3×3 → gate → 1×1 → residual."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        if not isinstance(block, Block):
            raise TypeError(f"expected a Block, found {type(block).__name__}")
        kernel, bias = fuse_block_kernel(block)
        self.conv = _convolution(kernel, bias, padding=1)
        scale, project = block.scale, block.project
        if project.bias is None:
            raise ValueError("the projection has no bias")
        self.project = _convolution(
            project.weight * scale[:, None, None, None], project.bias * scale
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Maps f32 [1, C, h, w] and its mask [1, 1, h, w] to the same shape."""
        centred = x - x.mean(dim=1, keepdim=True)
        variance = (centred * centred).mean(dim=1, keepdim=True)
        scale = (variance + NORM_EPSILON).rsqrt() * mask
        left, right = self.conv(centred * scale).chunk(2, dim=1)
        out: Tensor = x + self.project(left * right)
        return out


class DenseBlocks(nn.ModuleList):
    """The blocks of a level, one after another."""

    def __init__(self, blocks: nn.Module) -> None:
        super().__init__(DenseBlock(block) for block in blocks.children())

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Maps f32 [1, C, h, w] and its mask to the same shape."""
        for block in self:
            x = block(x, mask)
        return x


class DenseMotionAnalyzer(nn.Module):
    """`MotionAnalyzer` over every site; sites are rows, so that sampling gathers whole rows."""

    def __init__(self, analyzer: MotionAnalyzer) -> None:
        super().__init__()
        self.coefficients, self.mix = analyzer.coefficients, analyzer.mix
        self.points = analyzer.points

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Maps f32 [1, C, h, w] and its mask to the guided features and the motion [1, 4, h, w]."""
        channels, height, width = x.shape[1:]
        motion = bounded_motion(self.coefficients(x), dim=1)
        rows = (x * mask).reshape(channels, height * width).T
        sampled = [
            _sample_rows(rows, displacement(motion, t, dim=1)[0], height, width)
            for t in trajectory_times(self.points).tolist()
        ]
        features = torch.cat(sampled, dim=1).T.reshape(1, self.points * channels, height, width)
        return x + self.mix(features), motion


def _sample_rows(rows: Tensor, offset: Tensor, height: int, width: int) -> Tensor:
    """Samples rows [h·w, C] bilinearly at sites displaced by [2, h, w]; the outside is zero."""
    whole = offset.floor()
    fraction_x, fraction_y = (offset - whole).unbind(dim=0)
    left = torch.arange(width) + whole[0].to(torch.int64)
    top = torch.arange(height)[:, None] + whole[1].to(torch.int64)
    out = torch.zeros(())
    for dy in (0, 1):
        for dx in (0, 1):
            column, row = left + dx, top + dy
            inner_column, inner_row = column.clamp(0, width - 1), row.clamp(0, height - 1)
            weight = (fraction_x if dx else 1 - fraction_x) * (fraction_y if dy else 1 - fraction_y)
            inside = (column == inner_column) & (row == inner_row)
            corner = rows.index_select(0, (inner_row * width + inner_column).reshape(-1))
            out = out + corner * torch.where(inside, weight, 0.0).reshape(-1, 1)
    return out


class DenseRestorer(nn.Module):
    """The whole of it: a picture and its mask in, residual and motion out."""

    def __init__(self, restorer: Restorer) -> None:
        super().__init__()
        self.stem = restorer.stem
        self.encoder = nn.ModuleList(DenseBlocks(blocks) for blocks in restorer.encoder)
        self.decoder = nn.ModuleList(DenseBlocks(blocks) for blocks in restorer.decoder)
        self.down, self.up = restorer.down, restorer.up
        self.motion = DenseMotionAnalyzer(restorer.motion)
        self.head = restorer.head

    def forward(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Predicts the residual and the motion of the active pixels, by computing every pixel.

        Args:
            image: f32 [1, 3, H + 4, W + 4], RGB in [0, 1], with the two pixels around it that the
                stem reads; H and W multiples of 32.
            mask: f32 [1, 1, H, W], 1 where a pixel is active, else 0.

        Returns:
            residual f32 [1, 3, H, W] and motion f32 [1, 4, H/4, W/4], of any value at inactive
            sites.
        """
        masks = [mask]
        for _ in range(LEVELS - 1):
            masks.append(F.max_pool2d(masks[-1], 2))
        x = self.stem(image)
        skips = []
        for level, encoder in enumerate(self.encoder):
            if level:
                x = self.down[level - 1](x * masks[level - 1])
            x = encoder(x, masks[level])
            skips.append(x)
        motion = torch.zeros(0)
        for level in reversed(range(LEVELS - 1)):
            x = skips[level] + F.pixel_shuffle(self.up[level](x), 2)
            if level == MOTION_LEVEL:
                x, motion = self.motion(x, masks[level])
            x = self.decoder[level](x, masks[level])
        return self.head(x), motion


def _convolution(kernel: Tensor, bias: Tensor, *, padding: int = 0) -> nn.Conv2d:
    c_out, c_in, size, _ = kernel.shape
    convolution = nn.Conv2d(c_in, c_out, size, padding=padding)
    with torch.no_grad():
        convolution.weight.copy_(kernel)
        convolution.bias.copy_(bias)  # type: ignore[union-attr]
    return convolution
