"""Sites on the device: from a mask to the tables that the restoration graph reads.

What `m2a.runtime.sites` builds with NumPy, in two steps: the active sites of the four levels are
counted, the four counts come back, and then all sizes are known.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from m2a.runtime.gpu.buffers import Buffers, Layout
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


class SiteBuilder:
    """Builds tables in buffers of its own."""

    def __init__(self, device: Device, kernels: Kernels, buffers: Buffers) -> None:
        self._device, self._kernels, self._buffers = device, kernels, buffers
        self._sides: list[tuple[int, int]] = []
        self._masks: list[Address] = []
        self._before: list[Address] = []

    def count(self, mask: Address, size: Size) -> tuple[int, ...]:
        """Counts the active sites of each level, and waits for the counts.

        Args:
            mask: uint8 [H', W'], 1 where a pixel is active; it must stay until `build`.
            size: of the picture.

        Raises:
            BackendError: something that was queued failed.
        """
        totals = self.scan(mask, size)
        counts = self._buffers.pinned("counts", LEVELS * _INT)
        self._device.download(counts, totals)
        self._device.wait()
        return tuple(int(count) for count in counts.view(np.int32))

    def scan(self, mask: Address, size: Size) -> Address:
        """Queues the counting alone, for a mask of which the counts are known; returns their place.

        The arguments are those of `count`.
        """
        self._sides = [(size.padded_height >> n, size.padded_width >> n) for n in range(LEVELS)]
        layout = Layout()
        for level, (height, width) in enumerate(self._sides):
            layout.add(f"mask_{level}", height * width if level else 0)
            layout.add(f"before_{level}", self._kernels.chunks(height * width) * _INT)
        layout.add("totals", LEVELS * _INT)
        start = self._buffers.reserve("levels", layout.size)
        at = _addresses(start, layout)
        self._masks = [mask, *(at(f"mask_{level}") for level in range(1, LEVELS))]
        self._before = [at(f"before_{level}") for level in range(LEVELS)]
        totals = at("totals")
        for level, (height, width) in enumerate(self._sides):
            own, before = self._masks[level], self._before[level]
            if level:
                self._kernels.pool_mask(self._masks[level - 1], own, height, width)
            self._kernels.count_active(own, before, totals.plus(level * _INT), height * width)
        return totals

    def build(self, counts: tuple[int, ...]) -> DeviceSites:
        """Queues the tables of the mask that was counted or scanned last.

        Args:
            counts: from `count`; no level may be empty.
        """
        shapes = _shapes(counts)
        layout = Layout()
        for level, (height, width) in enumerate(self._sides):
            layout.add(f"rows_{level}", height * width * _INT)
            layout.add(f"pixels_{level}", counts[level] * _INT)
        for name, shape in shapes.items():
            layout.add(name, int(np.prod(shape)) * _INT)
        at = _addresses(self._buffers.reserve("tables", layout.size), layout)
        rows = [at(f"rows_{level}") for level in range(LEVELS)]
        pixels = [at(f"pixels_{level}") for level in range(LEVELS)]
        self._fill(rows, pixels, {name: at(name) for name in shapes}, counts)
        tables = {name: Tensor(address=at(name), shape=shape) for name, shape in shapes.items()}
        height, width = self._sides[MOTION_LEVEL]
        tables["site_map"] = Tensor(address=rows[MOTION_LEVEL], shape=(height * width,))
        return DeviceSites(counts=counts, pixels=pixels[0], tables=tables)

    def _fill(
        self,
        rows: list[Address],
        pixels: list[Address],
        tables: dict[str, Address],
        counts: tuple[int, ...],
    ) -> None:
        kernels = self._kernels
        for level, (height, width) in enumerate(self._sides):
            mask, before, count = self._masks[level], self._before[level], counts[level]
            kernels.place_rows(mask, before, rows[level], pixels[level], height * width, count)
            table = tables[f"neighbours_{level}"]
            kernels.neighbours(rows[level], pixels[level], table, count, height, width)
        for fine, coarse in itertools.pairwise(range(LEVELS)):
            down, up = tables[f"children_{fine}"], tables[f"parents_{fine}"]
            width = self._sides[coarse][1]
            kernels.children(rows[fine], pixels[coarse], down, counts[coarse], width)
            kernels.parents(rows[coarse], pixels[fine], up, counts[fine], 2 * width)
        height, width = self._sides[MOTION_LEVEL]
        xy, grid_size = tables["site_xy"], tables["grid_size"]
        count = counts[MOTION_LEVEL]
        kernels.site_xy(pixels[MOTION_LEVEL], xy, grid_size, count, height, width)


def _shapes(counts: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The tables' shapes, but for `site_map`: that is a map of rows, as each level has one."""
    shapes: dict[str, tuple[int, ...]] = {}
    for level, count in enumerate(counts):
        shapes[f"neighbours_{level}"] = (count, 9)
    for fine, coarse in itertools.pairwise(range(LEVELS)):
        shapes[f"children_{fine}"] = (counts[coarse], 4)
        shapes[f"parents_{fine}"] = (counts[fine],)
    return {**shapes, "site_xy": (counts[MOTION_LEVEL], 2), "grid_size": (2,)}


def _addresses(start: Address, layout: Layout) -> Callable[[str], Address]:
    return lambda name: start.plus(layout.offset(name))
