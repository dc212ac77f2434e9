"""The content of the deblurred picture's file: the source's own, or encoded anew.

All that answer with a picture ask here, so that the same bytes come back from each.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from m2a.runtime.encoding import encode_photo, is_of_format
from m2a.runtime.photo import Photo
from m2a.runtime.settings import Settings

__all__ = ["encoded_output", "is_copied"]


def encoded_output(
    settings: Settings,
    photo: Photo,
    *,
    pixels: NDArray[np.uint8 | np.uint16],
    mask: NDArray[np.bool_],
    suffix: str,
    origin: str,
) -> bytes:
    """The content of the deblurred picture's file.

    Args:
        settings: the quality, and whether metadata are left out.
        photo: the photograph as it was read.
        pixels: [H, W, C], what the `Deblurrer` made of the photo's.
        mask: [H, W], which of them were restored.
        suffix: of the format to write.
        origin: what error messages call the output.

    Raises:
        UsageError, ImageError: as `encode_photo`.
    """
    if is_copied(settings, photo, mask=mask, suffix=suffix):
        assert photo.encoded is not None
        return photo.encoded
    metadata = {} if settings.strip_metadata else photo.metadata
    return encode_photo(
        replace(photo, pixels=pixels, metadata=metadata, encoded=None),
        suffix=suffix,
        quality=settings.quality_for(suffix),
        origin=origin,
    )


def is_copied(settings: Settings, photo: Photo, *, mask: NDArray[np.bool_], suffix: str) -> bool:
    """Whether the output is the source's own bytes: to encode it again would lose for nothing.

    So it is where no pixel was restored, and the source is an upright lossy file of the output's
    format, of which neither metadata are to be left out nor the quality is to be changed.
    """
    return (
        photo.encoded is not None
        and not mask.any()
        and not settings.strip_metadata
        and settings.quality is None
        and is_of_format(suffix, photo.format)
    )
