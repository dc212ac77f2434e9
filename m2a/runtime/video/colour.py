"""Between a frame's Y'CbCr samples and RGB, and back without touching what did not change.

The way back adds a *difference*: Y'CbCr is linear in RGB, so the difference that deblurring makes
in RGB, which is zero outside the mask, becomes one in the samples, and they are never converted
from RGB as a whole. Samples that hold no pixel of the mask stay as they are, bit for bit.

swscale would do the first half, but it takes an 8-bit white to 254/255 in float, and in 8 bits
values beyond the legal range can wrap around.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2a.errors import VideoError

__all__ = ["FORMATS", "Plane", "SampleCoding", "coding_of"]

Plane = NDArray[Any]
"""[H, W], or smaller for a subsampled chroma: uint8, or little-endian uint16 for 10 bits."""

FORMATS = {
    f"{family}{sampling}p{depth}": (bits, rows, columns)
    for sampling, rows, columns in ((420, 2, 2), (422, 1, 2), (444, 1, 1))
    for family, depth, bits in (("yuv", "", 8), ("yuvj", "", 8), ("yuv", "10le", 10))
}
"""Pixel format → bits, rows and columns of pixels that share a chroma sample."""

_MATRICES = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.470 BG
    6: (0.299, 0.114),  # SMPTE 170M
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020, non-constant luminance
}
"""Matrix coefficients as in H.273 → the weights of red and blue in Y'."""

_UNSPECIFIED = 2
_FULL_RANGE = 2


@dataclass(frozen=True, kw_only=True)
class SampleCoding:
    """How RGB is coded in a frame's planes.

    Attributes:
        bits: of a sample, 8 or 10.
        rows: of pixels that share a chroma sample, 1 or 2.
        columns: likewise.
        red: weight of red in Y'.
        blue: weight of blue in Y'.
        full_range: whether samples use the whole range, or the narrow one (16 to 235 in 8 bits).
    """

    bits: int
    rows: int
    columns: int
    red: float
    blue: float
    full_range: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a sample."""
        return np.dtype(np.uint8 if self.bits == 8 else "<u2")

    def to_rgb(self, planes: Sequence[Plane]) -> NDArray[np.float32]:
        """Converts a frame.

        Args:
            planes: Y' [H, W], Cb and Cr [ceil(H / rows), ceil(W / columns)].

        Returns:
            f32 [H, W, 3], RGB in [0, 1]: what lies outside is clipped. Chroma is interpolated
            linearly, sited left and, where rows share it, between them, as video has it by default.
        """
        white, grey, middle, black = self._levels
        luma = (planes[0].astype(np.float32) - black) / white
        blue, red = (self._spread((p.astype(np.float32) - middle) / grey, luma) for p in planes[1:])
        rgb = np.empty((*luma.shape, 3), np.float32)
        rgb[:, :, 0] = luma + np.float32(2 * (1 - self.red)) * red
        rgb[:, :, 2] = luma + np.float32(2 * (1 - self.blue)) * blue
        of_red, of_green, of_blue = self._weights
        rgb[:, :, 1] = (luma - of_red * rgb[:, :, 0] - of_blue * rgb[:, :, 2]) / of_green
        return np.clip(rgb, 0, 1, out=rgb)

    def with_difference(
        self, planes: Sequence[Plane], difference: NDArray[np.float32]
    ) -> list[Plane]:
        """Adds a difference in RGB.

        Args:
            planes: as in `to_rgb`; not changed.
            difference: f32 [H, W, 3], zero where a pixel stays.

        Returns:
            New planes, rounded and clipped to the range of their type. A chroma sample moves by the
            mean over the pixels that share it. Samples whose pixels all stay are equal.
        """
        white, grey, _, _ = self._levels
        luma = difference @ np.array(self._weights, np.float32)
        blue = (difference[:, :, 2] - luma) / np.float32(2 * (1 - self.blue))
        red = (difference[:, :, 0] - luma) / np.float32(2 * (1 - self.red))
        steps = (luma * white, self._mean(blue) * grey, self._mean(red) * grey)
        top = (1 << self.bits) - 1
        return [
            np.clip(np.rint(plane + step), 0, top).astype(plane.dtype)
            for plane, step in zip(planes, steps, strict=True)
        ]

    @property
    def _levels(self) -> tuple[np.float32, np.float32, np.float32, np.float32]:
        """From black to white in Y', the span of chroma, its middle, and black in Y'."""
        step = 1 << (self.bits - 8)
        if self.full_range:
            span = np.float32(256 * step - 1)
            return span, span, np.float32(128 * step), np.float32(0)
        levels = (219, 224, 128, 16)
        white, grey, middle, black = (np.float32(level * step) for level in levels)
        return white, grey, middle, black

    @property
    def _weights(self) -> tuple[np.float32, np.float32, np.float32]:
        """Of red, green and blue in Y'."""
        green = 1 - self.red - self.blue
        return np.float32(self.red), np.float32(green), np.float32(self.blue)

    def _spread(self, chroma: Plane, luma: NDArray[np.float32]) -> Plane:
        """Chroma [h, w] for every pixel of `luma` [H, W]."""
        height, width = luma.shape
        if self.rows == 2:
            before = np.concatenate([chroma[:1], chroma[:-1]])
            after = np.concatenate([chroma[1:], chroma[-1:]])
            rows = np.stack([0.75 * chroma + 0.25 * before, 0.75 * chroma + 0.25 * after], axis=1)
            chroma = rows.reshape(-1, chroma.shape[1])[:height]
        if self.columns == 2:
            after = np.concatenate([chroma[:, 1:], chroma[:, -1:]], axis=1)
            columns = np.stack([chroma, (chroma + after) / 2], axis=2)
            chroma = columns.reshape(height, -1)[:, :width]
        return chroma

    def _mean(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """[H, W] → [ceil(H / rows), ceil(W / columns)], means over pixels that share a sample."""
        height, width = values.shape
        around = ((0, -height % self.rows), (0, -width % self.columns))
        padded = np.pad(values, around, mode="edge")
        shape = (-1, self.rows, padded.shape[1] // self.columns, self.columns)
        mean: NDArray[np.float32] = padded.reshape(shape).mean(axis=(1, 3), dtype=np.float32)
        return mean


def coding_of(
    *, pix_fmt: str, matrix: int, colour_range: int, size: tuple[int, int], origin: str
) -> SampleCoding:
    """The coding of a video's frames.

    Args:
        pix_fmt: FFmpeg's name of the pixel format.
        matrix: matrix coefficients as in H.273; where unspecified, BT.709 is taken from 720 rows
            or 1280 columns on and BT.601 below, as players do.
        colour_range: FFmpeg's: 2 is full, others narrow.
        size: (H, W).
        origin: the video's name for messages.

    Raises:
        VideoError: the format or the matrix is not supported.
    """
    if pix_fmt not in FORMATS:
        raise VideoError(
            f"{origin}: found the pixel format {pix_fmt}, expected YUV of 8 or 10 bits without "
            f"alpha: {', '.join(FORMATS)}"
        )
    if matrix == _UNSPECIFIED:
        matrix = 1 if size[0] >= 720 or size[1] >= 1280 else 6
    if matrix not in _MATRICES:
        raise VideoError(
            f"{origin}: found colours with the matrix coefficients {matrix} (H.273), expected "
            "BT.601, BT.709, BT.2020 (non-constant luminance), SMPTE 240M or FCC"
        )
    bits, rows, columns = FORMATS[pix_fmt]
    red, blue = _MATRICES[matrix]
    return SampleCoding(
        bits=bits,
        rows=rows,
        columns=columns,
        red=red,
        blue=blue,
        full_range=colour_range == _FULL_RANGE or pix_fmt.startswith("yuvj"),
    )
