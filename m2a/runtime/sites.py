"""Sites: from a mask to the tables and patches that the restoration graph reads (DESIGN section 4).

Everything here is vectorised NumPy on the CPU. Rows are ordered by pixel index, row-major, at
every level; an absent site has the row number N_l, one past the last, which reads as zeros.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Samples = TypeVar("Samples", bound=np.generic)

LEVELS = 4
MOTION_LEVEL = 2
CELL = 2**MOTION_LEVEL  # side in pixels of the cells that carry a trajectory
MULTIPLE = 32
PATCH = 5
"""Side of the RGB neighbourhood that the stem reads."""

BORDER = PATCH // 2
"""Pixels by which an image is padded on each side for the patches."""


@dataclass(frozen=True, kw_only=True)
class Sites:
    """The active sites of one mask, and the tables that connect them.

    Attributes:
        shape: (H, W) of the padded mask, multiples of 32.
        pixels: int64 [N_0], row-major indices of the active pixels in the padded mask.
        tables: the integer inputs of the restoration graph by name: `neighbours_l`, `children_l`,
            `parents_l`, `site_map`, `site_xy` and `grid_size`, all int32.
    """

    shape: tuple[int, int]
    pixels: NDArray[np.int64]
    tables: dict[str, NDArray[np.int32]]

    @property
    def counts(self) -> tuple[int, ...]:
        """N_0…N_3, the number of active sites per level."""
        return tuple(len(self.tables[f"neighbours_{level}"]) for level in range(LEVELS))


def padded_size(size: int) -> int:
    """Rounds a side up to a multiple of 32."""
    return -(-size // MULTIPLE) * MULTIPLE


def reflect_index(size: int, *, before: int, total: int) -> NDArray[np.int64]:
    """Returns the source indices of positions -before … total + before - 1 by reflection.

    Position i reads k = i mod 2(n - 1), then min(k, 2(n - 1) - k); 0 if n = 1.
    """
    position = np.arange(-before, total + before)
    if size == 1:
        return np.zeros_like(position)
    period = 2 * (size - 1)
    wrapped = position % period
    return np.minimum(wrapped, period - wrapped)


def pad_image(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pads an image by reflection: right and bottom to multiples of 32, then 2 pixels all round.

    Args:
        image: f32 [H, W, 3], at least 1×1.

    Returns:
        f32 [H' + 4, W' + 4, 3]. Its inner [2:-2, 2:-2] part is what the mask graph reads.
    """
    height, width = image.shape[:2]
    rows = reflect_index(height, before=BORDER, total=padded_size(height))
    columns = reflect_index(width, before=BORDER, total=padded_size(width))
    return np.ascontiguousarray(image[rows][:, columns])


def pad_mask(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pads a mask [H, W] to multiples of 32; padding is never active."""
    height, width = mask.shape
    return np.pad(mask, ((0, padded_size(height) - height), (0, padded_size(width) - width)))


def dilate(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Dilates a mask by a (2·radius + 1)² square.

    Args:
        mask: bool [H, W].
        radius: pixels, at least 0.

    Returns:
        bool [H, W]: active where any pixel within `radius` rows and columns is.
    """
    out = mask
    for axis in (0, 1):
        reach = 0
        while reach < radius:
            # By at most r + 1: a window of the reach r that the border cuts has only r + 1 pixels
            # left, and must meet its shifted copy without a hole.
            step = min(radius - reach, reach + 1)
            out = _shifted_or(out, step, axis=axis)
            reach += step
    return out


def _shifted_or(mask: NDArray[np.bool_], step: int, *, axis: int) -> NDArray[np.bool_]:
    lines = mask if axis == 0 else mask.T
    out = lines.copy()
    out[step:] |= lines[:-step]
    out[:-step] |= lines[step:]
    return out if axis == 0 else out.T


def build_sites(mask: NDArray[np.bool_]) -> Sites:
    """Builds the tables of a mask.

    Args:
        mask: bool [H, W], H and W multiples of 32, at least one active pixel.

    Returns:
        Its `Sites`.

    Raises:
        ValueError: the mask is empty or not padded. (An empty mask never reaches the graph.)
    """
    if mask.ndim != 2 or mask.shape[0] % MULTIPLE or mask.shape[1] % MULTIPLE:
        raise ValueError(f"expected a mask with sides of multiples of {MULTIPLE}: {mask.shape}")
    levels = [_Level.of(mask)]
    for _ in range(LEVELS - 1):
        levels.append(_Level.of(_max_pool(levels[-1].mask)))
    if not levels[0].count:
        raise ValueError("the mask has no active pixel")

    tables: dict[str, NDArray[np.int32]] = {}
    for number, level in enumerate(levels):
        tables[f"neighbours_{number}"] = level.rows_at(_NEIGHBOURS)
    for number, (fine, coarse) in enumerate(itertools.pairwise(levels)):
        tables[f"children_{number}"] = fine.rows_of_children(coarse)
        tables[f"parents_{number}"] = coarse.rows_of_parents(fine)
    motion = levels[MOTION_LEVEL]
    tables["site_map"] = np.ascontiguousarray(motion.inner_rows).reshape(-1)
    tables["site_xy"] = np.stack([motion.x, motion.y], axis=1)
    tables["grid_size"] = np.array([motion.mask.shape[1], motion.mask.shape[0]], np.int32)
    return Sites(shape=mask.shape, pixels=np.flatnonzero(mask), tables=tables)


_NEIGHBOURS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))


@dataclass(frozen=True, kw_only=True)
class _Level:
    """The active sites of one level.

    `rows` maps a pixel to its row, with a border of one absent site all round, so that a
    neighbour is a constant offset away and never needs a bounds check.
    """

    mask: NDArray[np.bool_]
    x: NDArray[np.int32]
    y: NDArray[np.int32]
    rows: NDArray[np.int32]

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> _Level:
        y, x = (axis.astype(np.int32) for axis in np.nonzero(mask))
        rows = np.full((mask.shape[0] + 2, mask.shape[1] + 2), len(x), np.int32)
        rows[1:-1, 1:-1][mask] = np.arange(len(x), dtype=np.int32)
        return cls(mask=mask, x=x, y=y, rows=rows)

    @property
    def count(self) -> int:
        return len(self.x)

    @property
    def inner_rows(self) -> NDArray[np.int32]:
        return self.rows[1:-1, 1:-1]

    def rows_at(self, offsets: tuple[tuple[int, int], ...]) -> NDArray[np.int32]:
        """Rows of the sites at constant (dy, dx) offsets from each site: [N, len(offsets)]."""
        stride = self.rows.shape[1]
        centre = (self.y + 1) * stride + (self.x + 1)
        shifts = np.array([dy * stride + dx for dy, dx in offsets], np.int32)
        return self._take(centre[:, None] + shifts)

    def rows_of_children(self, coarse: _Level) -> NDArray[np.int32]:
        """Rows at this level of the 2×2 children of each coarse site: [N_coarse, 4], (y, x)."""
        stride = self.rows.shape[1]
        first = (2 * coarse.y + 1) * stride + (2 * coarse.x + 1)
        return self._take(first[:, None] + np.array([0, 1, stride, stride + 1], np.int32))

    def rows_of_parents(self, fine: _Level) -> NDArray[np.int32]:
        """4 · row of the parent at this level + quadrant 2·(y mod 2) + (x mod 2): [N_fine]."""
        stride = self.rows.shape[1]
        parent = self._take((fine.y // 2 + 1) * stride + (fine.x // 2 + 1))
        quadrant = 2 * (fine.y % 2) + fine.x % 2
        return (4 * parent + quadrant).astype(np.int32, copy=False)

    def _take(self, places: NDArray[np.int32]) -> NDArray[np.int32]:
        rows: NDArray[np.int32] = self.rows.reshape(-1).take(places)
        return rows


def _max_pool(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    rows: NDArray[np.bool_] = mask[0::2] | mask[1::2]
    return rows[:, 0::2] | rows[:, 1::2]


def mask_graph_image(surroundings: NDArray[Samples]) -> NDArray[Samples]:
    """The input `image` of the mask graph: the padded picture without its border.

    Args:
        surroundings: [H' + 4, W' + 4, 3] of any dtype, as `pad_image` returns it.

    Returns:
        [1, 3, H', W'] of the same dtype, C-contiguous.
    """
    inner = surroundings[BORDER:-BORDER, BORDER:-BORDER]
    return np.ascontiguousarray(inner.transpose(2, 0, 1))[None]


def extract_patches(surroundings: NDArray[Samples], pixels: NDArray[np.int64]) -> NDArray[Samples]:
    """Gathers the 5×5 RGB neighbourhood of each active pixel.

    Args:
        surroundings: [H + 4, W + 4, 3] of any dtype, C-contiguous, as `pad_image` returns it.
        pixels: int64 [N], row-major indices into [H, W].

    Returns:
        [N, 75] of the same dtype in the order (ky, kx, c).
    """
    padded_width = surroundings.shape[1]
    width = padded_width - 2 * BORDER
    y, x = np.divmod(pixels, width)
    first = (y * padded_width + x) * 3
    # A kernel row is one run of 15 samples in memory: gather runs, not single values.
    runs = np.lib.stride_tricks.sliding_window_view(surroundings.reshape(-1), 3 * PATCH)
    starts = first[:, None] + np.arange(PATCH) * (padded_width * 3)
    patches: NDArray[Samples] = runs[starts].reshape(len(pixels), 3 * PATCH * PATCH)
    return patches
