"""The tables of DESIGN section 4 in torch, on whatever device the masks lie.

A GPU would wait for NumPy's. Equal to `m2a.runtime.sites.build_sites`, table by table, which stays
the reference in the tests.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from m2a.models.config import LEVELS, MOTION_LEVEL
from m2a.models.gathered import Tables


def build_tables(mask: Tensor, patches: Tensor) -> Tables:
    """Builds the inputs of the gathered restorer for one mask.

    Args:
        mask: bool [H, W], H and W multiples of 32, at least one active pixel.
        patches: f32 [N_0, 75], the surroundings of the active pixels, row-major.

    Returns:
        The tables, on the mask's device.
    """
    levels = [_Level.of(mask)]
    while len(levels) < LEVELS:
        levels.append(_Level.of(max_pool(levels[-1].mask)))
    motion = levels[MOTION_LEVEL]
    height, width = motion.mask.shape
    return Tables(
        patches=patches,
        neighbours=tuple(level.neighbours() for level in levels),
        children=tuple(fine.rows_of_children(c) for fine, c in itertools.pairwise(levels)),
        parents=tuple(c.rows_of_parents(fine) for fine, c in itertools.pairwise(levels)),
        site_map=motion.rows[1:-1, 1:-1].reshape(-1),
        site_xy=torch.stack([motion.x, motion.y], dim=1).to(torch.int32),
        grid_size=torch.tensor([width, height], dtype=torch.int32, device=mask.device),
    )


def square_places(first: Tensor, *, side: int, stride: int) -> Tensor:
    """Places of squares in a flat picture of rows of `stride`: [N] first ones → [N, side²]."""
    steps = torch.arange(side, device=first.device)
    return first[:, None] + (steps[:, None] * stride + steps).reshape(-1)


def max_pool(mask: Tensor) -> Tensor:
    """Halves a mask's two last sides: active where any of 2×2 is."""
    rows = mask[..., 0::2, :] | mask[..., 1::2, :]
    return rows[..., 0::2] | rows[..., 1::2]


def dilate(mask: Tensor, radius: int) -> Tensor:
    """Dilates the two last sides of a bool tensor by a (2·radius + 1)² square."""
    for axis in (-2, -1):
        mask = _any_in_window(mask, radius, axis)
    return mask


def _any_in_window(mask: Tensor, radius: int, axis: int) -> Tensor:
    size = mask.shape[axis]
    reach = min(radius, size)
    margin = list(mask.shape)
    margin[axis] = reach
    outside = mask.new_zeros(margin)
    lines = torch.cat([outside, mask, outside], dim=axis)
    # Doubling: any of `done` values from a place on, and then of up to twice as many.
    done = 1
    while done < 2 * reach + 1:
        step = min(done, 2 * reach + 1 - done)
        rest = lines.shape[axis] - step
        lines = lines.narrow(axis, 0, rest) | lines.narrow(axis, step, rest)
        done += step
    return lines


@dataclass(frozen=True, kw_only=True)
class _Level:
    """The active sites of one level.

    Attributes:
        mask: bool [h, w].
        y, x: int64 [N], row-major.
        rows: int32 [h + 2, w + 2], pixel → row, N where none is; a border all round, so that a
            neighbour is a constant offset away.
    """

    mask: Tensor
    y: Tensor
    x: Tensor
    rows: Tensor

    @classmethod
    def of(cls, mask: Tensor) -> _Level:
        height, width = mask.shape
        y, x = mask.nonzero().unbind(dim=1)
        count = len(y)
        rows = mask.new_full((height + 2, width + 2), count, dtype=torch.int32)
        numbers = torch.arange(count, dtype=torch.int32, device=mask.device)
        rows.view(-1)[(y + 1) * (width + 2) + (x + 1)] = numbers
        return cls(mask=mask, y=y, x=x, rows=rows)

    def neighbours(self) -> Tensor:
        """Rows of the 3×3 neighbours of each site: [N, 9], (dy, dx)."""
        return self._look_up(self.y, self.x, corner=0, side=3)

    def rows_of_children(self, coarse: _Level) -> Tensor:
        """Rows at this level of the 2×2 children of each coarse site: [N_coarse, 4], (y, x)."""
        return self._look_up(2 * coarse.y, 2 * coarse.x, corner=1, side=2)

    def rows_of_parents(self, fine: _Level) -> Tensor:
        """4 · row of the parent at this level + quadrant 2·(y mod 2) + (x mod 2): [N_fine]."""
        parent = self._look_up(fine.y // 2, fine.x // 2, corner=1, side=1).squeeze(1)
        return 4 * parent + (2 * (fine.y % 2) + fine.x % 2).to(torch.int32)

    def _look_up(self, y: Tensor, x: Tensor, *, corner: int, side: int) -> Tensor:
        """Rows of a square of sites that begins `corner` places after the border's: [N, side²]."""
        stride = self.rows.shape[1]
        first = (y + corner) * stride + (x + corner)
        found: Tensor = self.rows.view(-1)[square_places(first, side=side, stride=stride)]
        return found
