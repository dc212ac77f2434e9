"""From a photograph to the bytes of a picture file, in the format that a suffix names.

| suffix | samples | alpha | compression |
|---|---|---|---|
| .png | 8, 16 bits | yes | lossless |
| .tif .tiff | 8, 16 bits | yes | lossless: deflate, horizontal predictor |
| .webp | 8 bits; grey becomes RGB | yes | lossless, or lossy if a quality is given |
| .jpg .jpeg | 8 bits | no | quality 95 unless given, chroma never subsampled |

16-bit samples become 8-bit ones by rounding v / 257. The ICC profile, EXIF, XMP, IPTC and the
resolution are kept where the format holds them (libvips writes no EXIF into a TIFF file); the
orientation becomes 1, and the EXIF thumbnail is dropped: it shows the photograph as it was
before.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from m2a.errors import ImageError, UsageError
from m2a.runtime.photo import Photo, eight_bits
from m2a.runtime.vips import ICC_FIELD, load_vips, one_line

if TYPE_CHECKING:
    import pyvips

__all__ = ["JPEG_QUALITY", "OUTPUT_SUFFIXES", "check_encodable", "encode_photo", "suffix_of"]

JPEG_QUALITY = 95
"""The default JPEG quality: the coding loss stays well below what deblurring changes."""


def check_encodable(
    *, suffix: str, photo: Photo | None = None, quality: int | None = None, origin: str
) -> None:
    """Say whether `encode_photo` would take these arguments, before any work is done.

    Args:
        suffix: the output's suffix with its dot; case does not matter.
        photo: the photograph, if it is known already: its alpha and size must fit the format.
        quality: as in `encode_photo`.
        origin: what error messages call the output: the file's name.

    Raises:
        UsageError: the suffix is not supported, the format cannot hold the photograph's alpha or
            size, the quality is out of range, or the format is always lossless.
    """
    output = _OUTPUTS.get(suffix.lower())
    if output is None:
        raise UsageError(
            f"{origin}: found the suffix {suffix!r}, expected one of {', '.join(_OUTPUTS)}"
        )
    if quality is not None and not output.lossy:
        raise UsageError(
            f"{origin}: found quality {quality}, expected none: {output.name} is lossless"
        )
    if quality is not None and not 1 <= quality <= 100:
        raise UsageError(f"{origin}: found quality {quality}, expected 1 to 100")
    if photo is not None and photo.alpha is not None and not output.alpha:
        holders = ", ".join(suffix for suffix, other in _OUTPUTS.items() if other.alpha)
        raise UsageError(
            f"{origin}: found a photo with an alpha channel, which {output.name} cannot hold; "
            f"expected one of {holders}"
        )
    if photo is not None and max(photo.pixels.shape[:2]) > output.max_side:
        height, width = photo.pixels.shape[:2]
        raise UsageError(
            f"{origin}: found {width}x{height} pixels, expected at most {output.max_side} a side "
            f"for {output.name}; PNG and TIFF hold larger photos"
        )


def encode_photo(photo: Photo, *, suffix: str, quality: int | None = None, origin: str) -> bytes:
    """Encode a photograph in the format that the suffix names.

    Args:
        photo: pixels and alpha to encode, and the metadata to keep.
        suffix: one of `OUTPUT_SUFFIXES`; case does not matter.
        quality: 1 to 100, for JPEG and lossy WebP; None for 95 and for lossless WebP.
        origin: what error messages call the output: the file's name.

    Raises:
        UsageError: as `check_encodable`.
        ImageError: libvips cannot encode it.
    """
    check_encodable(suffix=suffix, photo=photo, quality=quality, origin=origin)
    output = _OUTPUTS[suffix.lower()]
    vips = load_vips()
    try:
        image = _vips_image(vips, photo, sixteen_bits=output.sixteen_bits)
        return _encode(image, output, quality=quality, keep=_keep(vips, photo, output))
    except vips.Error as error:
        raise ImageError(
            f"{origin}: cannot be encoded as {output.name}: {one_line(error)}"
        ) from error


@dataclass(frozen=True, kw_only=True)
class _Output:
    """What an output format can hold."""

    name: str
    sixteen_bits: bool
    alpha: bool
    lossy: bool
    max_side: int


_JPEG = _Output(name="JPEG", sixteen_bits=False, alpha=False, lossy=True, max_side=65_500)
_PNG = _Output(name="PNG", sixteen_bits=True, alpha=True, lossy=False, max_side=2**31 - 1)
_TIFF = _Output(name="TIFF", sixteen_bits=True, alpha=True, lossy=False, max_side=2**31 - 1)
_WEBP = _Output(name="WebP", sixteen_bits=False, alpha=True, lossy=True, max_side=16_383)

_OUTPUTS = {
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".png": _PNG,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".webp": _WEBP,
}

OUTPUT_SUFFIXES = tuple(_OUTPUTS)
"""The suffixes that `write_photo` takes, in lower case; case does not matter."""


def suffix_of(source: str | None) -> str:
    """The suffix for a photo's `format`: that of the same format, or .png where none is written."""
    own = (suffix for suffix, output in _OUTPUTS.items() if output.name == source)
    return next(own, ".png")


def _vips_image(vips: ModuleType, photo: Photo, *, sixteen_bits: bool) -> pyvips.Image:
    """A libvips image that refers to the photo's samples and carries its metadata."""
    samples = photo.pixels
    if photo.alpha is not None:
        samples = np.concatenate([samples, photo.alpha[:, :, np.newaxis]], axis=2)
    if not sixteen_bits:
        samples = eight_bits(samples)
    samples = np.ascontiguousarray(samples)
    height, width, bands = samples.shape
    wide = samples.dtype == np.uint16
    colour = ("rgb16" if wide else "srgb") if bands >= 3 else ("grey16" if wide else "b-w")
    image = vips.Image.new_from_memory(
        samples, width, height, bands, "ushort" if wide else "uchar"
    ).copy(interpretation=colour, xres=photo.resolution[0], yres=photo.resolution[1])
    fields = dict(photo.metadata)
    if photo.icc_profile is not None:
        fields[ICC_FIELD] = photo.icc_profile
    for name, value in fields.items():
        kind = vips.GValue.blob_type if isinstance(value, bytes) else vips.GValue.refstr_type
        image.set_type(kind, name, value)
    # Setting "exif-data" brings back what it says of the orientation, and its thumbnail: undo both.
    image.set_type(vips.GValue.gint_type, "orientation", 1)
    image.remove("jpeg-thumbnail-data")
    return image


def _keep(vips: ModuleType, photo: Photo, output: _Output) -> int:
    """Which metadata to write.

    Left alone, libvips makes up an EXIF block where there was none; in a JPEG file that is the
    only place where it puts the resolution, so there it may.
    """
    keep = vips.enums.ForeignKeep
    kept = keep.XMP | keep.IPTC | keep.ICC | keep.OTHER
    if "exif-data" in photo.metadata or output is _JPEG:
        kept |= keep.EXIF
    return int(kept)


def _encode(image: pyvips.Image, output: _Output, *, quality: int | None, keep: int) -> bytes:
    data: bytes
    if output is _JPEG:
        chosen = JPEG_QUALITY if quality is None else quality
        data = image.jpegsave_buffer(Q=chosen, subsample_mode="off", keep=keep)
    elif output is _PNG:
        data = image.pngsave_buffer(filter="all", keep=keep)
    elif output is _TIFF:
        data = image.tiffsave_buffer(compression="deflate", predictor="horizontal", keep=keep)
    elif quality is None:
        # "exact": libwebp otherwise rewrites the colours under transparent pixels.
        data = image.webpsave_buffer(lossless=True, exact=True, keep=keep)
    else:
        data = image.webpsave_buffer(Q=quality, smart_subsample=True, exact=True, keep=keep)
    return data
