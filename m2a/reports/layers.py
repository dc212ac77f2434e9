"""The pictures of a photo on the page, which lie one over the other.

The restored pixels lie over the photo and are transparent elsewhere, so that on the page too all
other pixels are the same before and after, whatever the coding loses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2a.runtime.drawing import Strokes, trajectory_strokes
from m2a.runtime.encoding import encode_photo
from m2a.runtime.photo import Photo, eight_bits
from m2a.runtime.result import Result
from m2a.runtime.sites import dilate
from m2a.runtime.vips import load_vips

__all__ = ["LONGEST", "Layers", "draw_layers"]

LONGEST = 2000
"""Longer side in pixels from which a photo is scaled down for the page."""

THUMBNAIL = 160
"""Longer side of the thumbnails, twice as large as they are shown."""

QUALITY = 90
"""Of the photos' WebP: its loss stays well below what deblurring changes."""

EDGE = (0, 214, 214)
"""The colour of the line around the mask, as on the page's switch for it."""

SHADE = 150
"""Opacity, of 255, of the shade over what is not in the mask."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Layers:
    """A photo's pictures on the page, WebP files of one size; they carry no metadata.

    Attributes:
        size: (W, H) in pixels.
        before: the photo; what is transparent in it lies on white.
        after: the deblurred photo, opaque where it was restored, transparent elsewhere.
        mask: a shade over what was not restored, and a line around what was.
        thumbnail: the deblurred photo, small.
        strokes: the trajectories to draw, in pixels of the photo as it was read.
        centre: (x, y) of the restored pixels' mean, each a share of the photo's side; the middle
            where nothing was restored.
    """

    size: tuple[int, int]
    before: bytes
    after: bytes
    mask: bytes
    thumbnail: bytes
    strokes: Strokes
    centre: tuple[float, float]


def draw_layers(photo: Photo, result: Result, *, longest: int = LONGEST) -> Layers:
    """Draws the pictures of a photo.

    Args:
        photo: the photo as it was read.
        result: what the `Deblurrer` made of its pixels.
        longest: a photo whose longer side has more pixels is scaled down to it.

    Raises:
        ImageError: libvips cannot scale or encode them.
    """
    before = _scaled(_shown(photo, photo.pixels), longest)
    whole = _shown(photo, result.image)
    after = _scaled(whole, longest)
    # A scaled pixel is restored if any is of which it is made.
    restored = _scaled(np.where(result.mask, np.uint8(255), np.uint8(0))[:, :, None], longest) > 0
    mask = restored[:, :, 0]
    icc_profile = photo.icc_profile if photo.pixels.shape[2] == 3 else None

    def encoded(pixels: NDArray[np.uint8], alpha: NDArray[np.uint8] | None = None) -> bytes:
        picture = Photo(pixels=pixels, alpha=alpha, icc_profile=icc_profile)
        return encode_photo(picture, suffix=".webp", quality=QUALITY, origin="the page's picture")

    shade, opacity = _mask_layer(mask)
    return Layers(
        size=(before.shape[1], before.shape[0]),
        before=encoded(before),
        after=encoded(after, np.where(mask, np.uint8(255), np.uint8(0))),
        mask=encode_photo(
            Photo(pixels=shade, alpha=opacity), suffix=".webp", origin="the page's mask"
        ),
        thumbnail=encoded(_scaled(whole, THUMBNAIL)),
        strokes=trajectory_strokes(result.mask.shape, result.motion),
        centre=_centre(mask),
    )


def _shown(photo: Photo, pixels: NDArray[np.uint8 | np.uint16]) -> NDArray[np.uint8]:
    """uint8 [H, W, 3], laid on white where the photo is transparent."""
    colour = np.repeat(eight_bits(pixels), 3 // pixels.shape[2], axis=2)
    if photo.alpha is None:
        return colour
    alpha = eight_bits(photo.alpha)[:, :, None].astype(np.uint32)
    on_white = (colour * alpha + 255 * (255 - alpha) + 127) // 255
    return on_white.astype(np.uint8)


def _scaled(samples: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """uint8 [H, W, C], scaled down until no side has more than `longest` pixels."""
    if max(samples.shape[:2]) <= longest:
        return samples
    height, width, bands = samples.shape
    image = load_vips().Image.new_from_memory(
        np.ascontiguousarray(samples), width, height, bands, "uchar"
    )
    small: NDArray[np.uint8] = image.thumbnail_image(longest, height=longest, size="down").numpy()
    return small.reshape(*small.shape[:2], bands)


def _mask_layer(mask: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The mask layer's colour [H, W, 3] and opacity [H, W]."""
    edge = dilate(mask, max(1, round(max(mask.shape) / 700))) & ~mask
    colour = np.where(edge[:, :, None], np.array(EDGE, np.uint8), np.uint8(0))
    opacity = np.where(edge, np.uint8(255), np.where(mask, np.uint8(0), np.uint8(SHADE)))
    return colour, opacity


def _centre(mask: NDArray[np.bool_]) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    if not rows.size:
        return 0.5, 0.5
    height, width = mask.shape
    return float(columns.mean() + 0.5) / width, float(rows.mean() + 0.5) / height
