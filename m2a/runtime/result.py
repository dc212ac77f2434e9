"""What deblurring a picture gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2a.errors import PixelLimitError, UsageError
from m2a.runtime.decoding import counted_pixels, decode_photo
from m2a.runtime.images import check_before_encoding, write_encoded
from m2a.runtime.output import encoded_output
from m2a.runtime.photo import Photo
from m2a.runtime.pixels import Pixels
from m2a.runtime.settings import Settings
from m2a.runtime.sites import CELL, padded_size

__all__ = ["Result", "coverage_of", "no_motion", "photo_of"]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a call returns; the arrays are the caller's.

    Attributes:
        image: the deblurred picture, with the shape, dtype and range of the input.
        mask: bool [H, W], the pixels that were restored: after threshold and dilation, or the
            mask that was given.
        probability: f32 [H, W] of visible motion blur, from the mask predictor; None where a
            mask was given.
        coverage: active pixels / all pixels, 0 to 1.
        motion: f32 [H'/4, W'/4, 4], the trajectory d(t) = a·t + b·t², t ∈ [-1, 1], as
            (a_x, a_y, b_x, b_y) in pixels per 4×4 cell, where H' and W' are H and W rounded up
            to multiples of 32; NaN where nothing was restored. a and -a give the same blur.
        seconds: wall time per stage, in the order in which they ran.
        backend: who computed the graphs.
        photo: the deblurred photograph, whose pixels are views of `image`, with metadata and all
            else that the file had; None where the input was an array.
    """

    image: Pixels
    mask: NDArray[np.bool_]
    probability: NDArray[np.float32] | None
    coverage: float
    motion: NDArray[np.float32]
    seconds: Mapping[str, float]
    backend: str
    photo: Photo | None = None

    @property
    def highest_probability(self) -> float | None:
        """Of visible motion blur, over all pixels, 0 to 1; None where a mask was given.

        Nothing is restored where it is below the `Deblurrer`'s threshold.
        """
        return None if self.probability is None else float(self.probability.max())

    def __repr__(self) -> str:
        height, width = self.mask.shape
        return (
            f"<Result {width}x{height}, {self.coverage:.1%} restored on {self.backend} "
            f"in {sum(self.seconds.values()):.2f} s>"
        )

    def save(
        self,
        path: str | Path,
        *,
        overwrite: bool = False,
        quality: int | None = None,
        strip_metadata: bool = False,
    ) -> None:
        """Writes the deblurred picture as `m2a run` does, whole or not at all.

        Where the input was a path, metadata, colour profile and resolution are that file's, and so
        is the coding where both are of one format. Where nothing was restored or changed since, an
        upright JPEG or lossy WebP file of the same format is copied.

        Args:
            path: the file, whose suffix names the format; its folder must exist.
            overwrite: whether an existing file may be replaced.
            quality: 1 to 100, for JPEG, WebP and AVIF; None decides as above.
            strip_metadata: leave EXIF, XMP and IPTC out.

        Raises:
            UsageError: the suffix is not supported, the file exists and `overwrite` is false, the
                format cannot hold the picture, or the picture is of floating point.
            ImageError: it cannot be encoded or written; an existing file is then untouched.
        """
        path = Path(path)
        photo = self.photo or photo_of(self.image)
        check_before_encoding(path, overwrite=overwrite, photo=photo, quality=quality)
        if not _is_as_decoded(photo):
            photo = replace(photo, encoded=None)
        content = encoded_output(
            Settings(quality=quality, strip_metadata=strip_metadata),
            photo,
            pixels=photo.pixels,
            mask=self.mask,
            suffix=path.suffix,
            origin=str(path),
        )
        write_encoded(path, content, overwrite=overwrite)


def _is_as_decoded(photo: Photo) -> bool:
    """Whether `encoded` still is of the photo's arrays, which are the caller's to change."""
    if photo.encoded is None:
        return True
    limit = counted_pixels(*photo.pixels.shape[:2])
    try:
        decoded = decode_photo(photo.encoded, origin="the source", max_pixels=limit)
    except PixelLimitError:  # the caller's arrays are smaller than what was decoded
        return False
    if not np.array_equal(photo.pixels, decoded.pixels):
        return False
    if photo.alpha is None or decoded.alpha is None:
        return photo.alpha is decoded.alpha
    return np.array_equal(photo.alpha, decoded.alpha)


def photo_of(image: Pixels, source: Photo | None = None) -> Photo:
    """A photograph of pixels as a call returns them.

    Args:
        image: [H, W] or [H, W, C], uint8 or uint16: grey, grey + alpha, RGB or RGB + alpha for
            C = 1, 2, 3, 4.
        source: whose metadata and coding it has; None for a picture that has no file.

    Returns:
        A `Photo` whose arrays are views of `image`.

    Raises:
        UsageError: the pixels are of floating point, whose bit depth in a file is not known.
    """
    if image.dtype not in (np.uint8, np.uint16):
        raise UsageError(
            f"found a picture of {image.dtype}, expected uint8 or uint16, which files hold; deblur "
            "np.rint(255 * image).astype(np.uint8) instead"
        )
    samples = image if image.ndim == 3 else image[:, :, None]
    colours = 3 if samples.shape[2] >= 3 else 1
    pixels = samples[:, :, :colours]
    alpha = samples[:, :, colours] if samples.shape[2] > colours else None
    if source is None:
        return Photo(pixels=pixels, alpha=alpha)
    return replace(source, pixels=pixels, alpha=alpha)


def coverage_of(mask: NDArray[np.bool_]) -> float:
    """Active pixels / all pixels of a mask [H, W]."""
    return float(np.count_nonzero(mask)) / mask.size


def no_motion(height: int, width: int) -> NDArray[np.float32]:
    """The motion of a picture [H, W] of which nothing was restored."""
    cells = (padded_size(height) // CELL, padded_size(width) // CELL)
    return np.full((*cells, 4), np.nan, np.float32)
