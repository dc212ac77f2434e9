"""From a photograph to the bytes of a picture file, in the format that a suffix names.

| suffix | samples | alpha | compression |
|---|---|---|---|
| .png | 8, 16 bits | yes | lossless |
| .tif .tiff | 8, 16 bits | yes | lossless: deflate, horizontal predictor |
| .webp | 8 bits; grey becomes RGB | yes | lossless, or lossy |
| .avif | 8, 10, 12 bits; grey becomes RGB | yes | lossless, or lossy |
| .jpg .jpeg | 8 bits | no | lossy |

A lossy file is written as the photo's own file was, if that is of the same format. A JPEG file gets
the source's quality and chroma subsampling (where that is not 4:2:0, none, so that no chroma is
lost): with equal quantisation tables a block that was left alone is coded to nearly the same
numbers again. Of the example photo at quality 75, 4:2:0, such blocks come back at 53 dB in 39 kB;
at 95, 4:4:4 it would be 49 dB in 90 kB. A JPEG file of another source gets quality 95, 4:4:4.
WebP and AVIF are lossless unless a quality is given or the source is lossy and of the same format
(AVIF always counts so); then the file does not tell its quality, and gets 90. AVIF keeps the 10 or
12 bits of an AVIF source, and holds 12 bits of other 16-bit samples.

16-bit samples become 8-bit ones by rounding v / 257, and those of 10 and 12 bits by rounding to
the highest bits. The ICC profile, EXIF, XMP, IPTC and the resolution are kept where the format
holds them (libvips writes no EXIF into a TIFF file); the orientation becomes 1, and the EXIF
thumbnail is dropped: it shows the photograph as it was before.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from m2a.errors import ImageError, UsageError
from m2a.runtime.coding import Coding
from m2a.runtime.photo import Photo, eight_bits
from m2a.runtime.vips import ICC_FIELD, load_vips, one_line

if TYPE_CHECKING:
    import pyvips

__all__ = [
    "JPEG_QUALITY",
    "LOSSY_QUALITY",
    "OUTPUT_SUFFIXES",
    "check_encodable",
    "encode_photo",
    "is_of_format",
    "suffix_of",
    "takes_quality",
]

JPEG_QUALITY = 95
"""Of a JPEG file whose source tells none: it loses much less than what deblurring changes."""

LOSSY_QUALITY = 90
"""Of a WebP or AVIF file whose source is lossy: some 44 dB, at one and a half times the size."""


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
        ImageError: AVIF is asked for and the installed libvips cannot write it.
    """
    output = _OUTPUTS.get(suffix.lower())
    if output is None:
        heic = "HEIC is read, not written: " if suffix.lower() in (".heic", ".heif") else ""
        raise UsageError(
            f"{origin}: {heic}found the suffix {suffix!r}, expected one of {', '.join(_OUTPUTS)}"
        )
    if output is _AVIF and not _writes_avif():
        raise ImageError(
            f"{origin}: the installed libvips has no AV1 encoder, which AVIF needs; take "
            "libvips from pip install 'pyvips[binary]', or another suffix"
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
        quality: 1 to 100, for JPEG, WebP and AVIF; None as the module's docstring says.
        origin: what error messages call the output: the file's name.

    Raises:
        UsageError: as `check_encodable`.
        ImageError: libvips cannot encode it.
    """
    check_encodable(suffix=suffix, photo=photo, quality=quality, origin=origin)
    output = _OUTPUTS[suffix.lower()]
    coding = photo.coding if photo.format == output.source else None
    bits = _bits(photo, output, coding)
    vips = load_vips()
    try:
        image = _vips_image(vips, photo, bits=bits)
        keep = _keep(vips, photo, output)
        return _encode(image, output, quality=quality, coding=coding, bits=bits, keep=keep)
    except vips.Error as error:
        raise ImageError(
            f"{origin}: cannot be encoded as {output.name}: {one_line(error)}"
        ) from error


@dataclass(frozen=True, kw_only=True)
class _Output:
    """What an output format can hold; `source` is a `Photo.format` of the same kind."""

    name: str
    source: str
    bits: int
    alpha: bool
    lossy: bool
    max_side: int


_JPEG = _Output(name="JPEG", source="JPEG", bits=8, alpha=False, lossy=True, max_side=65_500)
_PNG = _Output(name="PNG", source="PNG", bits=16, alpha=True, lossy=False, max_side=2**31 - 1)
_TIFF = _Output(name="TIFF", source="TIFF", bits=16, alpha=True, lossy=False, max_side=2**31 - 1)
_WEBP = _Output(name="WebP", source="WebP", bits=8, alpha=True, lossy=True, max_side=16_383)
_AVIF = _Output(name="AVIF", source="AVIF/HEIF", bits=12, alpha=True, lossy=True, max_side=16_384)

_OUTPUTS = {
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".png": _PNG,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".webp": _WEBP,
    ".avif": _AVIF,
}

OUTPUT_SUFFIXES = tuple(_OUTPUTS)
"""The suffixes that `write_photo` takes, in lower case; case does not matter."""


def suffix_of(source: str | None) -> str:
    """The suffix for a photo's `format`: that of the same format, or .png where none is written."""
    own = (suffix for suffix, output in _OUTPUTS.items() if output.source == source)
    return next(own, ".png")


def is_of_format(suffix: str, source: str | None) -> bool:
    """Whether a suffix names the format that a photo's `format` is; case does not matter."""
    output = _OUTPUTS.get(suffix.lower())
    return output is not None and output.source == source


def takes_quality(suffix: str) -> bool:
    """Whether a suffix names a format that can be written with a quality; case does not matter."""
    output = _OUTPUTS.get(suffix.lower())
    return output is not None and output.lossy


@functools.cache
def _writes_avif() -> bool:
    """Whether the installed libvips has an AV1 encoder; it can have the format without."""
    vips = load_vips()
    try:
        vips.Image.black(16, 16, bands=3).heifsave_buffer(compression="av1")
    except vips.Error:
        return False
    return True


def _bits(photo: Photo, output: _Output, coding: Coding | None) -> int:
    """Bits per sample to write."""
    if output is _AVIF and photo.bits == 16 and coding is not None and coding.bits > 8:
        return coding.bits
    return min(photo.bits, output.bits)


def _vips_image(vips: ModuleType, photo: Photo, *, bits: int) -> pyvips.Image:
    """A libvips image that refers to the photo's samples and carries its metadata."""
    samples = photo.pixels
    if photo.alpha is not None:
        samples = np.concatenate([samples, photo.alpha[:, :, np.newaxis]], axis=2)
    if bits == 8:
        samples = eight_bits(samples)
    elif bits < 16:
        samples = _highest_bits(samples, bits)
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


def _highest_bits(samples: NDArray[Any], bits: int) -> NDArray[np.uint16]:
    """16-bit samples rounded to their highest bits, as AVIF of 10 and 12 bits is decoded."""
    lost = 16 - bits
    rounded = (samples.astype(np.uint32) + (1 << lost >> 1)) >> lost
    highest: NDArray[np.uint16] = np.minimum(rounded, (1 << bits) - 1).astype(np.uint16) << lost
    return highest


def _encode(
    image: pyvips.Image,
    output: _Output,
    *,
    quality: int | None,
    coding: Coding | None,
    bits: int,
    keep: int,
) -> bytes:
    data: bytes
    if output is _JPEG:
        followed = JPEG_QUALITY if coding is None else coding.quality
        mode = "on" if coding is not None and coding.subsampled else "off"
        data = image.jpegsave_buffer(Q=quality or followed, subsample_mode=mode, keep=keep)
    elif output is _PNG:
        data = image.pngsave_buffer(filter="all", keep=keep)
    elif output is _TIFF:
        data = image.tiffsave_buffer(compression="deflate", predictor="horizontal", keep=keep)
    else:
        chosen = quality or (None if coding is None else LOSSY_QUALITY)
        loss: dict[str, Any] = {"lossless": True} if chosen is None else {"Q": chosen}
        if output is _WEBP:
            # "exact": libwebp otherwise rewrites the colours under transparent pixels.
            data = image.webpsave_buffer(exact=True, smart_subsample=True, keep=keep, **loss)
        else:
            loss |= {"compression": "av1", "bitdepth": bits, "subsample_mode": "off"}
            data = image.heifsave_buffer(keep=keep, **loss)
    return data
