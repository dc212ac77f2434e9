"""Between a caller's array and the network's float RGB: conversion, and the exact way back.

Pixels outside the mask come back bit for bit: they are copied from the input, never converted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2a.errors import ImageError
from m2a.runtime.workers import ALONE, Workers

Pixels = NDArray[Any]

Rows = slice | NDArray[np.int64]
"""What picks rows or columns of a picture."""

_PIXELS_AT_A_TIME = 16384


@dataclass(frozen=True, kw_only=True)
class Colour:
    """The colour channels of a picture.

    Attributes:
        source: the caller's array, [H, W] or [H, W, C]: grey, grey + alpha, RGB, or RGB + alpha
            for C = 1, 2, 3, 4; uint8, uint16, or floating point in [0, 1]. Never changed.
    """

    source: Pixels

    @property
    def height(self) -> int:
        """H."""
        return int(self.source.shape[0])

    @property
    def width(self) -> int:
        """W."""
        return int(self.source.shape[1])

    @property
    def scale(self) -> float:
        """The value of white: 255, 65535 or 1."""
        if self.source.dtype.kind == "f":
            return 1.0
        return float(np.iinfo(self.source.dtype).max)

    @property
    def channels(self) -> int:
        """Colour channels: 1 or 3; alpha does not count."""
        count = 1 if self.source.ndim == 2 else int(self.source.shape[2])
        return 1 if count <= 2 else 3

    def to_float(self) -> NDArray[np.float32]:
        """Returns f32 [H, W, 3], RGB in [0, 1]; grey is repeated."""
        colour = self._colour(self.source).astype(np.float32) / np.float32(self.scale)
        return np.repeat(colour, 3, axis=2) if self.channels == 1 else colour

    def rgb(self, place: tuple[Rows, Rows]) -> Pixels:
        """Returns the source's own samples at some rows and columns: [h, w, 3]; grey is repeated.

        At most one of the two may be an index array.
        """
        colour = self._colour(self.source[place])
        return np.repeat(colour, 3, axis=2) if self.channels == 1 else colour

    def with_residual(self, mask: NDArray[np.bool_], residual: NDArray[np.float32]) -> Pixels:
        """Adds the residual at the active pixels of a copy.

        Args:
            mask: bool [H, W].
            residual: f32 [N, 3], a row per active pixel, row-major.

        Returns:
            A new array like `source`; see `restore_into`.
        """
        out = np.array(self.source, order="C")
        self.restore_into(out, np.flatnonzero(mask), residual)
        return out

    def restore_into(
        self,
        out: Pixels,
        pixels: NDArray[np.int64],
        residual: NDArray[np.float32],
        workers: Workers = ALONE,
    ) -> None:
        """Writes source + residual to some pixels of an array, and leaves the others.

        Integers are rounded to nearest, everything is clipped to the range. Alpha is not written.

        Args:
            out: like `source`, C-contiguous.
            pixels: int64 [N], row-major indices into [H, W], each at most once.
            residual: f32 [N, 3]. Grey takes its mean.
            workers: threads that share the work.
        """
        count = self.height * self.width
        source, target = (array.reshape(count, -1) for array in (self.source, out))
        scale = np.float32(self.scale)

        def restore(rows: slice) -> None:
            added = residual[rows]
            if self.channels == 1:
                added = added.mean(axis=1, keepdims=True, dtype=np.float32)
            # Whole pixels are taken: single channels would be gathered one by one.
            values = source.take(pixels[rows], axis=0)[:, : self.channels].astype(np.float32)
            values /= scale
            values += added
            np.clip(values, 0, 1, out=values)
            values *= scale
            if target.dtype.kind != "f":
                np.rint(values, out=values)
            target[pixels[rows], : self.channels] = values

        workers.over(len(pixels), _PIXELS_AT_A_TIME, restore)

    def _colour(self, array: Pixels) -> Pixels:
        """A view [H, W, 1 or 3] of the colour channels."""
        if array.ndim == 2:
            return array[:, :, None]
        return array[:, :, : self.channels]


def check_pixels(array: Pixels) -> Colour:
    """Validates a caller's array.

    Raises:
        ImageError: it is not a picture as `Colour` describes it.
    """
    expected = "expected [H, W] or [H, W, 1 to 4], uint8, uint16 or floating point in [0, 1]"
    found = f"found an array of {array.dtype} with the shape {list(array.shape)}"
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ImageError(f"{found}, {expected}")
    if array.ndim == 3 and array.shape[2] > 4:
        raise ImageError(f"{found}, {expected}")
    if array.dtype not in (np.uint8, np.uint16) and array.dtype.kind != "f":
        raise ImageError(f"{found}, {expected}")
    if array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):  # NaN fails too
            raise ImageError(f"found floating-point values from {low:g} to {high:g}, {expected}")
    return Colour(source=array)
