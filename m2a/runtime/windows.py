"""Rectangular parts of a picture, read from the padded picture without making all of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2a.runtime.pixels import Colour, Pixels
from m2a.runtime.sites import BORDER, padded_size, reflect_index

__all__ = ["Box", "PaddedPicture"]


@dataclass(frozen=True, kw_only=True)
class Box:
    """Rows `top` to `bottom` and columns `left` to `right`, the ends not included, in pixels."""

    top: int
    left: int
    bottom: int
    right: int

    @classmethod
    def of(cls, shape: tuple[int, int]) -> Box:
        """The whole of an array [H, W]."""
        return cls(top=0, left=0, bottom=shape[0], right=shape[1])

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        """To index an array [H, W, …]."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def grown(self, margin: int, *, within: Box) -> Box:
        """The box with a margin all round, as far as `within` reaches."""
        return Box(
            top=max(self.top - margin, within.top),
            left=max(self.left - margin, within.left),
            bottom=min(self.bottom + margin, within.bottom),
            right=min(self.right + margin, within.right),
        )

    def inside(self, outer: Box) -> Box:
        """The same box, counted from the corner of `outer`."""
        return Box(
            top=self.top - outer.top,
            left=self.left - outer.left,
            bottom=self.bottom - outer.top,
            right=self.right - outer.left,
        )

    def scaled(self, factor: int) -> Box:
        """The cells of `factor` × `factor` pixels that the box covers; it must be aligned."""
        return Box(
            top=self.top // factor,
            left=self.left // factor,
            bottom=self.bottom // factor,
            right=self.right // factor,
        )


class PaddedPicture:
    """A picture padded by reflection, of which windows are read, in the samples of the source.

    As a whole and in float it would be `pad_image(colour.to_float())`, four times the bytes of an
    8-bit picture, of which most is never looked at.

    Attributes:
        box: of the padded picture [H', W'], multiples of 32.
        size: (H, W) of the picture itself.
        scale: the value of white.
    """

    def __init__(self, colour: Colour) -> None:
        self.size = (colour.height, colour.width)
        self.scale = colour.scale
        self.box = Box.of((padded_size(colour.height), padded_size(colour.width)))
        self._colour = colour
        self._rows = reflect_index(colour.height, before=BORDER, total=self.box.height)
        self._columns = reflect_index(colour.width, before=BORDER, total=self.box.width)

    def surroundings(self, box: Box) -> Pixels:
        """Returns a box of the padded picture with two more pixels on each side.

        Args:
            box: inside `self.box`.

        Returns:
            [h + 4, w + 4, 3], RGB, C-contiguous, of the source's dtype and range;
            `m2a.runtime.graph_inputs` makes float of it.
        """
        rows = self._rows[box.top : box.bottom + 2 * BORDER]
        columns = self._columns[box.left : box.right + 2 * BORDER]
        # Inside the picture they are consecutive and copied; outside, a few are reflected.
        inside_y = _inside(box.top, len(rows), self.size[0])
        inside_x = _inside(box.left, len(columns), self.size[1])
        middle = self._colour.rgb((_consecutive(rows[inside_y]), _consecutive(columns[inside_x])))
        out = np.empty((len(rows), len(columns), 3), middle.dtype)
        out[inside_y, inside_x] = middle
        for outside in _around(inside_x, len(columns)):
            out[inside_y, outside] = self._colour.rgb(
                (_consecutive(rows[inside_y]), columns[outside])
            )
        for outside in _around(inside_y, len(rows)):
            out[outside] = self._colour.rgb((rows[outside], slice(None)))[:, columns]
        return out


def _inside(first: int, count: int, size: int) -> slice:
    """Which of `count` places from `first` - 2 on lie in [0, size): at least one does."""
    return slice(max(0, BORDER - first), min(count, size + BORDER - first))


def _around(inside: slice, count: int) -> tuple[slice, slice]:
    return slice(inside.start), slice(inside.stop, count)


def _consecutive(index: NDArray[np.int64]) -> slice:
    return slice(int(index[0]), int(index[-1]) + 1)
