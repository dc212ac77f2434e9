"""Sites: from a mask to the tables and patches that the restoration graph reads (DESIGN section 4).

Everything here is vectorised NumPy on the CPU. Rows are ordered by pixel index, row-major, at
every level; an absent site has the row number N_l, one past the last, which reads as zeros.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2a.runtime.workers import ALONE, Buffer, Workers

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
        # Farther than the other end nothing is reached.
        reach = min(radius, mask.shape[axis])
        out = _any_in_window(out, 2 * reach + 1, axis=axis)
    return out


def _any_in_window(mask: NDArray[np.bool_], length: int, *, axis: int) -> NDArray[np.bool_]:
    """Whether any of `length` values around each place is set; beyond the ends none is."""
    margin = [(0, 0), (0, 0)]
    margin[axis] = (length // 2, length // 2)
    lines = np.pad(mask, margin)
    # Doubling: any of `done` values from a place on, and then of up to twice as many.
    done = 1
    while done < length:
        step = min(done, length - done)
        lines = lines[:-step] | lines[step:] if axis == 0 else lines[:, :-step] | lines[:, step:]
        done += step
    return lines


class SiteBuffers:
    """Memory for the largest tables of one mask after another, a level each."""

    def __init__(self) -> None:
        self.rows = [Buffer(np.int32) for _ in range(LEVELS)]
        self.neighbours = [Buffer(np.int32) for _ in range(LEVELS)]


def build_sites(
    mask: NDArray[np.bool_], workers: Workers = ALONE, buffers: SiteBuffers | None = None
) -> Sites:
    """Builds the tables of a mask.

    Args:
        mask: bool [H, W], H and W multiples of 32, at least one active pixel.
        workers: threads that share the work.
        buffers: whose memory the tables take, until this thread builds the next; new memory where
            none are given.

    Returns:
        Its `Sites`.

    Raises:
        ValueError: the mask is empty or not padded. (An empty mask never reaches the graph.)
    """
    if mask.ndim != 2 or mask.shape[0] % MULTIPLE or mask.shape[1] % MULTIPLE:
        raise ValueError(f"expected a mask with sides of multiples of {MULTIPLE}: {mask.shape}")
    buffers = buffers or SiteBuffers()
    levels = [_Level.of(mask, buffers.rows[0])]
    for rows in buffers.rows[1:]:
        levels.append(_Level.of(max_pool(levels[-1].mask), rows))
    if not levels[0].count:
        raise ValueError("the mask has no active pixel")

    tables: dict[str, NDArray[np.int32]] = {}
    for number, (level, buffer) in enumerate(zip(levels, buffers.neighbours, strict=True)):
        tables[f"neighbours_{number}"] = level.neighbours(workers, buffer)
    for number, (fine, coarse) in enumerate(itertools.pairwise(levels)):
        tables[f"children_{number}"] = fine.rows_of_children(coarse)
        tables[f"parents_{number}"] = coarse.rows_of_parents(fine, workers)
    motion = levels[MOTION_LEVEL]
    tables["site_map"] = np.ascontiguousarray(motion.rows[1:-1, 1:-1]).reshape(-1)
    tables["site_xy"] = np.stack([motion.x, motion.y], axis=1)
    tables["grid_size"] = np.array([motion.mask.shape[1], motion.mask.shape[0]], np.int32)
    return Sites(shape=mask.shape, pixels=levels[0].pixels, tables=tables)


_NEIGHBOURS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))

_SITES_AT_A_TIME = 16384


@dataclass(frozen=True, kw_only=True)
class _Level:
    """The active sites of one level.

    Attributes:
        mask: bool [h, w].
        pixels: int64 [N], row-major indices into the mask.
        x, y: int32 [N], the same as coordinates.
        rows: int32 [h + 2, w + 2], pixel → row, with a border of one absent site all round, so that
            a neighbour is a constant offset away and never needs a bounds check.
        places: int64 [N], where in `rows` each site stands.
    """

    mask: NDArray[np.bool_]
    pixels: NDArray[np.int64]
    x: NDArray[np.int32]
    y: NDArray[np.int32]
    rows: NDArray[np.int32]
    places: NDArray[np.int64]

    @classmethod
    def of(cls, mask: NDArray[np.bool_], buffer: Buffer[np.int32]) -> _Level:
        height, width = mask.shape
        pixels = np.flatnonzero(mask)
        y = (pixels // width).astype(np.int32)
        x = (pixels - y * np.int64(width)).astype(np.int32)
        rows = buffer.take((height + 2, width + 2))
        rows.fill(len(pixels))
        # Two more columns than the mask has above each row, and one row and one column before.
        places = pixels + 2 * y + (width + 3)
        rows.reshape(-1)[places] = np.arange(len(pixels), dtype=np.int32)
        return cls(mask=mask, pixels=pixels, x=x, y=y, rows=rows, places=places)

    @property
    def count(self) -> int:
        return len(self.pixels)

    @property
    def stride(self) -> int:
        return int(self.rows.shape[1])

    def neighbours(self, workers: Workers, buffer: Buffer[np.int32]) -> NDArray[np.int32]:
        """Rows of the 3×3 neighbours of each site: [N, 9]."""
        shifts = np.array([dy * self.stride + dx for dy, dx in _NEIGHBOURS], np.int64)
        table = buffer.take((self.count, len(shifts)))

        def look_up(part: slice) -> None:
            # They are all in range; checking would go through a buffer.
            places = self.places[part, None] + shifts
            self.rows.reshape(-1).take(places, out=table[part], mode="clip")

        workers.over(self.count, _SITES_AT_A_TIME, look_up)
        return table

    def rows_of_children(self, coarse: _Level) -> NDArray[np.int32]:
        """Rows at this level of the 2×2 children of each coarse site: [N_coarse, 4], (y, x)."""
        first = (2 * coarse.y.astype(np.int64) + 1) * self.stride + (2 * coarse.x + 1)
        shifts = np.array([0, 1, self.stride, self.stride + 1], np.int64)
        rows: NDArray[np.int32] = self.rows.reshape(-1).take(first[:, None] + shifts)
        return rows

    def rows_of_parents(self, fine: _Level, workers: Workers) -> NDArray[np.int32]:
        """4 · row of the parent at this level + quadrant 2·(y mod 2) + (x mod 2): [N_fine]."""
        table = np.empty(fine.count, np.int32)

        def look_up(part: slice) -> None:
            y, x = fine.y[part], fine.x[part]
            place = (y // 2 + 1).astype(np.int64) * self.stride + (x // 2 + 1)
            parent = self.rows.reshape(-1).take(place)
            table[part] = 4 * parent + 2 * (y % 2) + x % 2

        workers.over(fine.count, _SITES_AT_A_TIME, look_up)
        return table


def has_active(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which 4×4 cells have an active pixel: bool [H, W] → [H / 4, W / 4]."""
    for _ in range(MOTION_LEVEL):
        mask = max_pool(mask)
    return mask


def max_pool(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The next coarser level's mask: active where any of its 2×2 children is."""
    rows: NDArray[np.bool_] = mask[0::2] | mask[1::2]
    return rows[:, 0::2] | rows[:, 1::2]
