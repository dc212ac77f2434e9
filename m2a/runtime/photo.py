"""A photograph in memory.

The ways from and to the bytes of a file are `m2a.runtime.decoding` and `m2a.runtime.encoding`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from m2a.runtime.coding import Coding

__all__ = ["DEFAULT_RESOLUTION", "Photo", "eight_bits"]

DEFAULT_RESOLUTION = 72 / 25.4
"""72 dpi, EXIF's default, in pixels per millimetre."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Photo:
    """A decoded photograph, upright, and what is needed to write it back.

    To write changed pixels: `write_photo(path, dataclasses.replace(photo, pixels=new), …)`, which
    encodes them and looks at no other bytes. The arrays are not copied; a decoded photo's arrays
    belong to it alone.

    Attributes:
        pixels: [H, W, 3] RGB or [H, W, 1] grey, uint8 or uint16, the full range of the type,
            as encoded in the file (no linearisation, no colour conversion).
        alpha: [H, W], dtype of `pixels`, not premultiplied; None if there is none.
        format: the source's format, such as "JPEG"; None if the photo was not decoded.
        coding: how the source was coded, for a file of the same format; None if that was without
            loss, cannot be told, or the photo was not decoded. AVIF counts as lossy.
        icc_profile: the embedded ICC profile, byte for byte.
        metadata: libvips' EXIF, XMP and IPTC fields, to be handed on and not looked into.
        resolution: horizontal and vertical resolution in pixels per millimetre.
        sha256: of the content of the file that the photo was read from, in hexadecimal digits;
            None if it was not read from a file.

        encoded: content of the file, where that is JPEG or lossy WebP and upright, so that a photo
            whose pixels stay can be written without another loss. It is of the pixels as they were
            decoded: whoever replaces them gives None.

    Raises:
        ValueError: shapes or dtypes are not as stated.
    """

    pixels: NDArray[np.uint8 | np.uint16]
    alpha: NDArray[np.uint8 | np.uint16] | None = None
    format: str | None = None
    coding: Coding | None = None
    icc_profile: bytes | None = None
    metadata: Mapping[str, bytes | str] = field(default_factory=dict, repr=False)
    resolution: tuple[float, float] = (DEFAULT_RESOLUTION, DEFAULT_RESOLUTION)
    sha256: str | None = field(default=None, repr=False)
    encoded: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        pixels, alpha = self.pixels, self.alpha
        if pixels.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"pixels: found {pixels.dtype}, expected uint8 or uint16")
        if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or pixels.size == 0:
            raise ValueError(f"pixels: found {pixels.shape}, expected [H, W, 3] or [H, W, 1]")
        expected = (pixels.shape[:2], pixels.dtype)
        if alpha is not None and (alpha.shape, alpha.dtype) != expected:
            raise ValueError(
                f"alpha: found {alpha.dtype} {alpha.shape}, "
                f"expected {pixels.dtype} {pixels.shape[:2]} as the pixels have"
            )

    @property
    def bits(self) -> int:
        """Bits per sample: 8 or 16."""
        return 8 * self.pixels.dtype.itemsize


def eight_bits(samples: NDArray[np.uint8 | np.uint16]) -> NDArray[np.uint8]:
    """Samples of any shape in 8 bits: 16-bit ones become v / 257, rounded, 8-bit ones stay.

    65535 = 255 · 257, so that black and white stay what they are.
    """
    if samples.dtype == np.uint8:
        return samples.view(np.uint8)
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)
