"""The restorer in its gathered form: the network that the exporter traces and the trainer trains.

It runs on packed lists of active sites and tables of row numbers (DESIGN section 4). A
convolution is gather → matrix product: the 3×3 neighbours of N sites become one [N, 9·C_in]
matrix, and the 3×3 kernel a [9·C_in, C_out] one. An absent neighbour is the row N of the
features, which reads as zeros.

The weights come from `m2a.models.reparameterize`; nothing is initialised here. The form uses
only what exports to the operators that the contract allows: `index_select` with int32 rows (fancy
indexing would become GatherND), no boolean logic, no data-dependent shape.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2a.models.config import LEVELS, MOTION_LEVEL, M2AENetConfig
from m2a.models.neighbour_gather import gather_neighbours
from m2a.models.restorer import (
    NORM_EPSILON,
    STEM_RADIUS,
    Blocks,
    Restoration,
    bounded_motion,
    trajectory_times,
)


class Tables(NamedTuple):
    """The inputs of `GatheredRestorer`, in the order of the exported graph.

    Attributes:
        patches: f32 [N_0, 75], the 5×5 RGB neighbourhood of each active pixel, (ky, kx, c).
        neighbours: l = 0…3, int32 [N_l, 9]: rows of the 3×3 neighbours; absent: N_l.
        children: l = 0…2, int32 [N_{l+1}, 4]: rows at level l of the 2×2 children; absent: N_l.
        parents: l = 0…2, int32 [N_l]: 4 · row at level l+1 + quadrant.
        site_map: int32 [H/4 · W/4]: level-2 pixel → row; absent: N_2.
        site_xy: int32 [N_2, 2]: level-2 coordinates (x, y).
        grid_size: int32 [2]: (W/4, H/4).
    """

    patches: Tensor
    neighbours: tuple[Tensor, ...]
    children: tuple[Tensor, ...]
    parents: tuple[Tensor, ...]
    site_map: Tensor
    site_xy: Tensor
    grid_size: Tensor


class NormedConvolution(Protocol):
    """What a `GatheredBlock` may be given in place of its own norm and 3×3 convolution."""

    def __call__(self, x: Tensor, neighbours: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Convolves the normed features.

        Args:
            x: f32 [N, C].
            neighbours: int32 [N, 9], a symmetric table; absent: N.
            weight: f32 [9·C, D], rows in the order (ky, kx, c).
            bias: f32 [D].

        Returns:
            f32 [N, D].
        """
        ...


class Product(nn.Module):
    """x @ weight + bias, with the weight as [C_in, C_out]. The bias stays an Add of its own."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(c_in, c_out))
        self.bias = nn.Parameter(torch.empty(c_out))

    def forward(self, x: Tensor) -> Tensor:
        """Maps f32 [N, C_in] to [N, C_out]."""
        return x @ self.weight + self.bias


class GatheredBlock(nn.Module):
    """`Block` with fused branches: norm without scale → gathered 3×3 → gate → 1×1 → residual."""

    def __init__(self, channels: int, *, convolve: NormedConvolution | None = None) -> None:
        super().__init__()
        self.channels = channels
        self.convolve = convolve
        self.conv = Product(9 * channels, 2 * channels)
        self.project = Product(channels, channels)

    def forward(self, x: Tensor, neighbours: Tensor, gate: Tensor | None = None) -> Tensor:
        """Maps f32 [N, C] to the same shape, given the int32 [N, 9] rows of the neighbours."""
        if self.convolve is None:
            normed = F.layer_norm(x, (self.channels,), None, None, NORM_EPSILON)
            convolved = self.conv(gather_neighbours(with_zero_row(normed), neighbours))
        else:
            convolved = self.convolve(x, neighbours, self.conv.weight, self.conv.bias)
        left, right = convolved.split(self.channels, dim=1)
        return x + gated(self.project(left * right), gate)


class GatheredMotionAnalyzer(nn.Module):
    """`MotionAnalyzer` on packed level-2 sites."""

    def __init__(self, channels: int, *, points: int) -> None:
        super().__init__()
        self.channels, self.points = channels, points
        self.coefficients = Product(channels, 4)
        self.mix = Product(points * channels, channels)

    def forward(
        self,
        x: Tensor,
        site_map: Tensor,
        site_xy: Tensor,
        grid_size: Tensor,
        gate: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Returns the guided features [N_2, C] and the motion [N_2, 4]."""
        motion = gated(bounded_motion(self.coefficients(x), dim=1), gate)
        offset_x, offset_y = self._offsets(motion)
        whole_x, whole_y = offset_x.floor(), offset_y.floor()
        fraction_x, fraction_y = offset_x - whole_x, offset_y - whole_y
        left = site_xy[:, 0:1] + whole_x.to(torch.int32)
        top = site_xy[:, 1:2] + whole_y.to(torch.int32)
        width, height = grid_size[0:1], grid_size[1:2]
        features = with_zero_row(x)
        zero = site_xy.new_zeros(1)
        sampled = x.new_zeros(())
        for dy in (0, 1):
            for dx in (0, 1):
                column, row = left + dx, top + dy
                # Clamp, then compare: a site that had to be clamped lies outside.
                inner_column = torch.minimum(torch.maximum(column, zero), width - 1)
                inner_row = torch.minimum(torch.maximum(row, zero), height - 1)
                weight_x = fraction_x if dx else 1 - fraction_x
                weight_y = fraction_y if dy else 1 - fraction_y
                weight = torch.where(column == inner_column, weight_x, 0.0) * torch.where(
                    row == inner_row, weight_y, 0.0
                )
                pixel = (inner_row * width + inner_column).reshape(-1)
                corner = features.index_select(0, site_map.index_select(0, pixel))
                sampled = sampled + corner * weight.reshape(-1, 1)
        mixed = self.mix(sampled.reshape(-1, self.points * self.channels))
        return x + gated(mixed, gate), motion

    def _offsets(self, motion: Tensor) -> tuple[Tensor, Tensor]:
        """Returns d(t) in level-2 sites at the T times: x and y, each [N_2, T]."""
        times = trajectory_times(self.points).to(motion.device).reshape(1, -1)
        scale = 1.0 / 2**MOTION_LEVEL
        offset_x = (motion[:, 0:1] * times + motion[:, 2:3] * (times * times)) * scale
        offset_y = (motion[:, 1:2] * times + motion[:, 3:4] * (times * times)) * scale
        return offset_x, offset_y


class GatheredRestorer(nn.Module):
    """The restorer on packed active sites; its parameters come from `reparameterize`.

    Args:
        config: of the network.
        convolve: what norms and convolves in the blocks, in training on a GPU; by default torch's
            own operations, which export.
    """

    def __init__(self, config: M2AENetConfig, *, convolve: NormedConvolution | None = None) -> None:
        super().__init__()
        widths = config.widths
        self.stem = Product(3 * (2 * STEM_RADIUS + 1) ** 2, widths[0])
        self.encoder = nn.ModuleList(
            Blocks(GatheredBlock(width, convolve=convolve) for _ in range(count))
            for width, count in zip(widths, config.blocks, strict=True)
        )
        self.decoder = nn.ModuleList(
            Blocks(GatheredBlock(width, convolve=convolve) for _ in range(count))
            for width, count in zip(widths[:-1], config.blocks[:-1], strict=True)
        )
        self.down = nn.ModuleList(
            Product(4 * fine, coarse) for fine, coarse in itertools.pairwise(widths)
        )
        self.up = nn.ModuleList(
            Product(coarse, 4 * fine) for fine, coarse in itertools.pairwise(widths)
        )
        self.motion = GatheredMotionAnalyzer(widths[MOTION_LEVEL], points=config.trajectory_points)
        self.head = Product(widths[0], 3)
        self.widths = widths

    def forward(self, tables: Tables, gates: Sequence[Tensor] | None = None) -> Restoration:
        """Predicts residual and motion.

        Args:
            tables: the active sites; every N_l must be at least 1.
            gates: l = 0…3, f32 [N_l, 1], in training alone: the factors that stand where masked
                dense multiplies by the mask of a level (see `straight_through_gates`).

        Returns:
            residual [N_0, 3] and motion [N_2, 4].
        """
        gate = [None] * LEVELS if gates is None else list(gates)
        x = gated(self.stem(tables.patches), gate[0])
        skips = []
        for level in range(LEVELS):
            if level:
                children = gather_rows(with_zero_row(x), tables.children[level - 1])
                x = gated(self.down[level - 1](children), gate[level])
            x = self.encoder[level](x, tables.neighbours[level], gate[level])
            skips.append(x)
        motion = torch.zeros(0)
        for level in reversed(range(LEVELS - 1)):
            quadrants = self.up[level](x).reshape(-1, self.widths[level])
            x = skips[level] + gated(quadrants.index_select(0, tables.parents[level]), gate[level])
            if level == MOTION_LEVEL:
                grid = (tables.site_map, tables.site_xy, tables.grid_size)
                x, motion = self.motion(x, *grid, gate[level])
            x = self.decoder[level](x, tables.neighbours[level], gate[level])
        return Restoration(residual=gated(self.head(x), gate[0]), motion=motion)


def gated(x: Tensor, gate: Tensor | None) -> Tensor:
    """Multiplies by a gate where there is one."""
    return x if gate is None else x * gate


def straight_through_gates(probability: Tensor, tables: Tables) -> list[Tensor]:
    """Gates of value 1 through which the loss reaches the mask predictor (paper: end to end).

    Every site of the tables is active, so its hard mask is 1. Its gradient is that of a soft mask
    instead: the probability at level 0, and above it the largest of the children's.

    Args:
        probability: f32 [N_0], of the active pixels.
        tables: their tables.

    Returns:
        l = 0…3: f32 [N_l, 1], all ones, with the gradient of the soft mask.
    """
    soft = [probability[:, None]]
    for children in tables.children:
        soft.append(gather_rows(with_zero_row(soft[-1]), children).amax(dim=1, keepdim=True))
    return [1 + (mask - mask.detach()) for mask in soft]


def with_zero_row(x: Tensor) -> Tensor:
    """Appends the row N of zeros that absent sites read: [N, C] → [N + 1, C]."""
    return torch.cat([x, x.new_zeros(1, x.shape[1])], dim=0)


def gather_rows(rows: Tensor, table: Tensor) -> Tensor:
    """Gathers [M, C] rows by an int32 [N, K] table into [N, K·C]."""
    width = table.shape[1] * rows.shape[1]
    return rows.index_select(0, table.reshape(-1)).reshape(-1, width)
