"""Launching the kernels of `kernels.cu`: their arguments in their order, and how many blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2a.errors import BackendError
from m2a.runtime.ensemble import Turn
from m2a.runtime.gpu.device import Address, Argument, Device
from m2a.runtime.pixels import Colour
from m2a.runtime.sites import PATCH, padded_size

ITEMS = 8
"""`ITEMS` of `kernels.cu`: pixels that a thread counts."""

PATCH_VALUES = PATCH * PATCH * 3

MAX_PIXELS = 28_000_000
"""Padded pixels of the largest picture: 75 times as many, and a stride, still are 32-bit."""

TYPES = {np.dtype(kind): kind.__name__ for kind in (np.uint8, np.uint16, np.float32)}
"""Types of pictures that the kernels take → suffix of their names."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture in the device's memory.

    Attributes:
        address: of [height, width, channels], C-contiguous.
        dtype: a key of `TYPES`.
        height, width: in pixels, without padding.
        channels: values of a pixel, alpha among them.
        colours: of these, how many are colours: 1 or 3.
    """

    address: Address
    dtype: np.dtype[Any]
    height: int
    width: int
    channels: int
    colours: int

    @classmethod
    def of(cls, source: NDArray[Any], address: Address) -> Picture:
        """Describes a picture [H, W] or [H, W, C] whose copy lies at the address."""
        colour = Colour(source=source)
        return cls(
            address=address,
            dtype=source.dtype,
            height=colour.height,
            width=colour.width,
            channels=1 if source.ndim == 2 else int(source.shape[2]),
            colours=colour.channels,
        )

    @property
    def white(self) -> float:
        """The value of white."""
        return 1.0 if self.dtype.kind == "f" else float(np.iinfo(self.dtype).max)


@dataclass(frozen=True, kw_only=True)
class Size:
    """The size of a picture, with and without padding, in pixels."""

    height: int
    width: int

    def __post_init__(self) -> None:
        if self.padded_height * self.padded_width > MAX_PIXELS:
            raise BackendError(
                f"found a picture of {self.width}×{self.height}, expected at most {MAX_PIXELS:,} "
                "pixels on a GPU; take a smaller picture or --backend ort-cpu"
            )

    @property
    def padded_height(self) -> int:
        """Height, a multiple of 32."""
        return padded_size(self.height)

    @property
    def padded_width(self) -> int:
        """Width, a multiple of 32."""
        return padded_size(self.width)

    @property
    def padded(self) -> int:
        """Pixels with padding."""
        return self.padded_height * self.padded_width

    @property
    def padded_sides(self) -> tuple[int, int]:
        """Height and width with padding."""
        return self.padded_height, self.padded_width

    def turned(self, turn: Turn) -> Size:
        """Of the turned picture."""
        return Size(height=self.width, width=self.height) if turn.transpose else self

    @property
    def numbers(self) -> tuple[int, int, int, int]:
        """As the kernels take them."""
        return self.height, self.width, self.padded_height, self.padded_width


class Kernels:
    """The kernels of one device; each call queues one. What they do stands in `kernels.cu`."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def planes(self, picture: Picture, planes: Address, size: Size, turn: Turn) -> None:
        """Writes the mask graph's `image`, f32 [1, 3, H', W'], turned; so are its sides."""
        self._each(
            f"planes_{TYPES[picture.dtype]}",
            3 * size.padded,
            (picture.address, planes, *_form(picture), *size.padded_sides, turn.code),
        )

    def patches(
        self,
        picture: Picture,
        pixels: Address,
        patches: Address,
        count: int,
        size: Size,
        turn: Turn,
    ) -> None:
        """Writes the restoration graph's `patches`, f32 [count, 75], of pixels of the turned mask.

        `size` is that of the picture as it is.
        """
        self._each(
            f"patches_{TYPES[picture.dtype]}",
            count * PATCH_VALUES,
            (
                *(picture.address, pixels, patches, count),
                *(*_form(picture), *size.padded_sides, turn.code),
            ),
        )

    def add_residual(
        self, picture: Picture, residual: Address, pixels: Address, count: int, size: Size
    ) -> None:
        """Adds the residual f32 [count, 3] to the active pixels of the picture, in place."""
        _, width, channels, colours, white = _form(picture)
        self._each(
            f"add_residual_{TYPES[picture.dtype]}",
            count * picture.colours,
            (
                picture.address,
                residual,
                pixels,
                count,
                width,
                channels,
                colours,
                white,
                size.padded_width,
            ),
        )

    def threshold_mask(
        self, probability: Address, mask: Address, size: Size, threshold: float
    ) -> None:
        """Writes the mask [H', W'] of a probability f32 [H', W']."""
        arguments = (probability, mask, *size.numbers, float(threshold))
        self._each("threshold_mask", size.padded, arguments)

    def dilate(
        self, mask: Address, between: Address, out: Address, size: Size, radius: int
    ) -> None:
        """Writes the dilated mask; `between` holds the step in between."""
        radius = min(int(radius), max(size.height, size.width))
        self._each("dilate_rows", size.padded, (mask, between, *size.numbers, radius))
        self._each("dilate_columns", size.padded, (between, out, *size.numbers, radius))

    def turn_mask(self, mask: Address, turned: Address, size: Size, turn: Turn) -> None:
        """Writes the mask [H', W'], turned."""
        self._each("turn_mask", size.padded, (mask, turned, *size.padded_sides, turn.code))

    def add_logits(
        self, probability: Address, logits: Address, size: Size, turn: Turn, *, first: bool
    ) -> None:
        """Adds a turned probability's logits to those f32 [H', W']; the first are put there."""
        arguments = (probability, logits, *size.padded_sides, turn.code, int(first))
        self._each("add_logits", size.padded, arguments)

    def mean_probability(
        self, logits: Address, probability: Address, size: Size, turns: int
    ) -> None:
        """Writes the probability f32 [H', W'] of the mean over the turns."""
        self._each("mean_probability", size.padded, (logits, probability, size.padded, turns))

    def add_turned_residual(
        self,
        residual: Address,
        pixels: Address,
        sums: Address,
        count: int,
        size: Size,
        turn: Turn,
        *,
        first: bool,
    ) -> None:
        """Adds the residual f32 [count, 3] of turned pixels to the sums f32 [H', W', 3].

        Those of active pixels alone are ever written; the first is put there.
        """
        arguments = (residual, pixels, sums, count, *size.padded_sides, turn.code, int(first))
        self._each("add_turned_residual", count * 3, arguments)

    def mean_residual(
        self,
        sums: Address,
        pixels: Address,
        residual: Address,
        count: int,
        size: Size,
        turn: Turn,
        turns: int,
    ) -> None:
        """Writes the mean residual f32 [count, 3]; its pixels are turned back, in place."""
        arguments = (sums, pixels, residual, count, *size.padded_sides, turn.code, turns)
        self._each("mean_residual", count, arguments)

    def pool_mask(self, fine: Address, coarse: Address, height: int, width: int) -> None:
        """Writes the mask [height, width] of the next level."""
        self._each("pool_mask", height * width, (fine, coarse, height, width))

    def chunks(self, sites: int) -> int:
        """How many chunks `count_active` divides a mask into."""
        return -(-sites // (self._device.threads * ITEMS))

    def count_active(self, mask: Address, before: Address, total: Address, sites: int) -> None:
        """Writes the active sites before each chunk, and of all."""
        chunks = self.chunks(sites)
        self._launch("count_active", chunks, (mask, before, sites, chunks))
        self._launch("scan_counts", 1, (before, total, chunks))

    def place_rows(
        self, mask: Address, before: Address, rows: Address, pixels: Address, sites: int, count: int
    ) -> None:
        """Writes site → row, i32 [sites], and row → site, i32 [count]."""
        chunks = self.chunks(sites)
        arguments = (mask, before, rows, pixels, sites, chunks, count)
        self._launch("place_rows", chunks, arguments)

    def neighbours(
        self, rows: Address, pixels: Address, table: Address, count: int, height: int, width: int
    ) -> None:
        """Writes a level's `neighbours_l`."""
        self._each("neighbours", count * 9, (rows, pixels, table, count, height, width))

    def children(
        self, fine_rows: Address, coarse_pixels: Address, table: Address, count: int, width: int
    ) -> None:
        """Writes `children_l`; `count` and `width` are the coarse level's."""
        self._each("children", count * 4, (fine_rows, coarse_pixels, table, count, width))

    def parents(
        self, coarse_rows: Address, fine_pixels: Address, table: Address, count: int, width: int
    ) -> None:
        """Writes `parents_l`; `count` and `width` are the fine level's."""
        self._each("parents", count, (coarse_rows, fine_pixels, table, count, width))

    def site_xy(
        self, pixels: Address, xy: Address, grid_size: Address, count: int, height: int, width: int
    ) -> None:
        """Writes `site_xy` and `grid_size`."""
        self._each("site_xy", count, (pixels, xy, grid_size, count, height, width))

    def motion_grid(
        self, motion: Address, site_map: Address, grid: Address, cells: int, count: int
    ) -> None:
        """Writes the trajectory of every cell, f32 [cells, 4]."""
        self._each("motion_grid", cells * 4, (motion, site_map, grid, cells, count))

    def clear_flag(self, flag: Address) -> None:
        """Lowers a flag, i32."""
        self._launch("clear_flag", 1, (flag,))

    def flag_not_finite(self, values: Address, flag: Address, count: int) -> None:
        """Raises the flag if one of f32 [count] is infinite or not a number."""
        self._each("flag_not_finite", count, (values, flag, count))

    def _each(self, kernel: str, count: int, arguments: tuple[Argument, ...]) -> None:
        self._launch(kernel, -(-count // self._device.threads), arguments)

    def _launch(self, kernel: str, blocks: int, arguments: tuple[Argument, ...]) -> None:
        self._device.launch(kernel, min(blocks, self._device.blocks), arguments)


def _form(picture: Picture) -> tuple[int, int, int, int, float]:
    return picture.height, picture.width, picture.channels, picture.colours, picture.white
