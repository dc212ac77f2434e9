"""Sites on the device: from a mask to the tables that the restoration graph reads.

What `m2a.runtime.sites` builds with NumPy, in two steps: the active sites of the four levels are
counted, the four counts come back, and then all sizes are known.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from m2a.runtime.gpu.buffers import Buffers, aligned
from m2a.runtime.gpu.device import Address, Device, Tensor
from m2a.runtime.gpu.kernels import Kernels, Size
from m2a.runtime.sites import LEVELS, MOTION_LEVEL

_INT = 4


@dataclass(frozen=True, kw_only=True)
class DeviceSites:
    """The tables of one mask, on the device; valid until the next are built.

    Attributes:
        counts: N_0…N_3, active sites per level.
        pixels: i32 [N_0], the active pixels, as indices into the padded mask.
        tables: the integer inputs of the restoration graph by name.
    """

    counts: tuple[int, ...]
    pixels: Address
    tables: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class _Level:
    height: int
    width: int
    mask: Address
    before: Address

    @property
    def sites(self) -> int:
        return self.height * self.width


class SiteBuilder:
    """Builds tables in buffers of its own."""

    def __init__(self, device: Device, kernels: Kernels, buffers: Buffers) -> None:
        self._device, self._kernels, self._buffers = device, kernels, buffers
        self._levels: tuple[_Level, ...] = ()

    def count(self, mask: Address, size: Size) -> tuple[int, ...]:
        """Counts the active sites of each level, and waits for the counts.

        Args:
            mask: uint8 [H', W'], 1 where a pixel is active; it must stay until `build`.
            size: of the picture.

        Raises:
            BackendError: something that was queued failed.
        """
        self._levels = self._lay_out(mask, size)
        totals = self._buffers.reserve("counts", LEVELS * _INT)
        for number, level in enumerate(self._levels):
            if number:
                finer = self._levels[number - 1].mask
                self._kernels.pool_mask(finer, level.mask, level.height, level.width)
            self._kernels.count_active(
                level.mask, level.before, totals.plus(number * _INT), level.sites
            )
        counts = self._buffers.pinned("counts", LEVELS * _INT)
        self._device.download(counts, totals)
        self._device.wait()
        return tuple(int(count) for count in counts.view(np.int32))

    def build(self, counts: tuple[int, ...]) -> DeviceSites:
        """Queues the tables of the mask that was counted last.

        Args:
            counts: from `count`; no level may be empty.
        """
        levels, kernels = self._levels, self._kernels
        places = _Places()
        rows = [places.take(level.sites) for level in levels]
        pixels = [places.take(count) for count in counts]
        shapes: dict[str, tuple[int, ...]] = {}
        for number, count in enumerate(counts):
            shapes[f"neighbours_{number}"] = (count, 9)
        for fine, coarse in itertools.pairwise(range(LEVELS)):
            shapes[f"children_{fine}"] = (counts[coarse], 4)
            shapes[f"parents_{fine}"] = (counts[fine],)
        shapes["site_xy"] = (counts[MOTION_LEVEL], 2)
        shapes["grid_size"] = (2,)
        offsets = {name: places.take(int(np.prod(shape))) for name, shape in shapes.items()}
        start = self._buffers.reserve("tables", places.size)
        row_maps = [start.plus(offset) for offset in rows]
        sites = [start.plus(offset) for offset in pixels]
        at = {name: start.plus(offset) for name, offset in offsets.items()}

        for level, to_row, to_site, count in zip(levels, row_maps, sites, counts, strict=True):
            kernels.place_rows(level.mask, level.before, to_row, to_site, level.sites, count)
        for number, (level, count) in enumerate(zip(levels, counts, strict=True)):
            table = at[f"neighbours_{number}"]
            kernels.neighbours(
                row_maps[number], sites[number], table, count, level.height, level.width
            )
        for fine, coarse in itertools.pairwise(range(LEVELS)):
            down, up = at[f"children_{fine}"], at[f"parents_{fine}"]
            width = levels[coarse].width
            kernels.children(row_maps[fine], sites[coarse], down, counts[coarse], width)
            kernels.parents(row_maps[coarse], sites[fine], up, counts[fine], 2 * width)
        motion, count = levels[MOTION_LEVEL], counts[MOTION_LEVEL]
        xy, grid_size = at["site_xy"], at["grid_size"]
        kernels.site_xy(sites[MOTION_LEVEL], xy, grid_size, count, motion.height, motion.width)
        tables = {name: Tensor(address=at[name], shape=shape) for name, shape in shapes.items()}
        tables["site_map"] = Tensor(address=row_maps[MOTION_LEVEL], shape=(motion.sites,))
        return DeviceSites(counts=counts, pixels=sites[0], tables=tables)

    def _lay_out(self, mask: Address, size: Size) -> tuple[_Level, ...]:
        sides = [(size.padded_height >> n, size.padded_width >> n) for n in range(LEVELS)]
        pooled = [aligned(height * width) for height, width in sides[1:]]
        chunks = [aligned(self._kernels.chunks(h * w) * _INT) for h, w in sides]
        start = self._buffers.reserve("levels", sum(pooled) + sum(chunks))
        levels = []
        for number, (height, width) in enumerate(sides):
            coarse = start.plus(sum(pooled[: number - 1]))
            levels.append(
                _Level(
                    height=height,
                    width=width,
                    mask=coarse if number else mask,
                    before=start.plus(sum(pooled) + sum(chunks[:number])),
                )
            )
        return tuple(levels)


class _Places:
    """Offsets of 32-bit arrays that lie one after the other."""

    def __init__(self) -> None:
        self.size = 0

    def take(self, count: int) -> int:
        offset = self.size
        self.size += aligned(count * _INT)
        return offset
