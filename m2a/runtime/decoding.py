"""From the bytes of a picture file to a photograph.

Read: JPEG, PNG, TIFF, WebP, and AVIF/HEIF as far as the installed libvips has the codec. The
format is recognised by the content, never by a name. 8 and 16 bits, grey or RGB, with or without
alpha; palettes and 1-, 2- and 4-bit samples are expanded to 8 bits, 10- and 12-bit AVIF is
shifted up to 16, and premultiplied TIFF colours are divided by their alpha. The EXIF orientation is
applied. ICC profiles are carried along, not applied. Refused: CMYK and Lab, floating point and
32-bit samples, files with more than one page or frame, and TIFF files with sub-images, which is
what most camera raw files are.

libvips sees contents, never file names, which it would parse for options in brackets.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from m2a.errors import ImageError, PixelLimitError
from m2a.runtime.coding import Coding, coding_of_jpeg, coding_of_webp
from m2a.runtime.photo import DEFAULT_RESOLUTION, Photo
from m2a.runtime.recognition import FORMATS, describe_other, recognise
from m2a.runtime.sites import MULTIPLE
from m2a.runtime.vips import ICC_FIELD, load_vips, one_line

if TYPE_CHECKING:
    import pyvips

__all__ = [
    "FORMATS",
    "INPUT_SUFFIXES",
    "MAX_METADATA",
    "MAX_PIXELS",
    "counted_pixels",
    "decode_photo",
    "largest_file",
    "readable_formats",
    "told_count",
]

MAX_PIXELS = 2**28
"""Pixels (H·W) accepted unless told otherwise: 16384 squared."""

MAX_METADATA = 2**26
"""Bytes of ICC profile, EXIF, XMP and IPTC together; a camera's are some ten thousand."""

INPUT_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".avif", ".heic", ".heif")
"""By which a picture is told in a folder, in lower case; a file that is named may have any."""


def largest_file(max_pixels: int) -> int:
    """The most bytes that a picture of so many pixels needs: 16-bit RGBA, and its metadata."""
    return 8 * max_pixels + MAX_METADATA


def counted_pixels(width: int, height: int) -> int:
    """The pixels of a picture as a limit counts them: a side below 32 as 32, which it is padded to.

    Else a line of one pixel's width would take 32 times what the limit means to allow. A picture
    whose sides are both at most 32 counts as it is.
    """
    if max(width, height) <= MULTIPLE:
        return width * height
    return max(width, MULTIPLE) * max(height, MULTIPLE)


def told_count(width: int, height: int) -> str:
    """What a message says after a size that counts as more than it has; else nothing."""
    counted = counted_pixels(width, height)
    return f", which count as {counted}" if counted > width * height else ""


def decode_photo(data: bytes, *, origin: str, max_pixels: int = MAX_PIXELS) -> Photo:
    """Decode one photograph and turn it upright.

    The samples are those of the file: no colour conversion, no rescaling (the module's
    docstring lists the exceptions).

    Args:
        data: the whole content of a picture file.
        origin: what error messages call it: the file's name.
        max_pixels: the most pixels accepted, as `counted_pixels` counts them; checked in the
            header, before decoding.

    Raises:
        PixelLimitError: the picture has more pixels than `max_pixels`.
        ImageError: the data are empty, damaged, truncated or not supported, or hold more metadata
            than `MAX_METADATA`.
    """
    name = recognise(data)
    if name is None:
        kind, advice = describe_other(data)
        raise ImageError(
            f"{origin}: found {kind}, expected one of {', '.join(FORMATS)}"
            + (advice and f"; {advice}")
        )
    vips = load_vips()
    try:
        # "error": libvips would otherwise fill what a damaged file lacks with grey or black.
        image = getattr(vips.Image, _LOADERS[name])(data, access="sequential", fail_on="error")
        _check_header(image, name, origin=origin, max_pixels=max_pixels)
        metadata = _metadata(image, origin=origin)
        coding = _coding(image, name, data)
        encoded = data if _can_be_copied(name, image, coding) else None
        if _number(image, "orientation", default=1) != 1:
            image = image.copy_memory().autorot()  # turning needs more than sequential access
        samples = image.numpy().reshape(image.height, image.width, image.bands)
    except (vips.Error, UnicodeDecodeError) as error:
        # pyvips fails on a message that quotes a damaged file's bytes, and leaves it standing.
        vips.vips_lib.vips_error_clear()
        if _is_hevc(data):
            raise ImageError(
                f"{origin}: found a HEIC photo that is damaged, or whose codec, HEVC, the "
                "installed libvips lacks; convert it to JPEG, PNG or AVIF first, with "
                "`heif-convert IN.heic OUT.jpg` or, on a Mac, "
                "`sips -s format jpeg IN.heic --out OUT.jpg`"
            ) from error
        raise ImageError(
            f"{origin}: found a damaged or unsupported {name} file ({one_line(error)}), "
            "expected one that decodes completely"
        ) from error
    colours = 3 if image.bands >= 3 else 1
    icc_profile = metadata.pop(ICC_FIELD, None)
    return Photo(
        pixels=np.ascontiguousarray(samples[:, :, :colours]),
        alpha=np.ascontiguousarray(samples[:, :, colours]) if image.bands > colours else None,
        format=name,
        coding=coding,
        icc_profile=icc_profile if isinstance(icc_profile, bytes) else None,
        metadata=metadata,
        resolution=(_resolution(image.xres), _resolution(image.yres)),
        encoded=encoded,
    )


# Named here and not left to libvips' search, which knows vector graphics and the like too, and
# takes a JPEG with a gain map for a high dynamic range picture of floating point samples.
_LOADERS = {
    "JPEG": "jpegload_buffer",
    "PNG": "pngload_buffer",
    "TIFF": "tiffload_buffer",
    "WebP": "webpload_buffer",
    "AVIF/HEIF": "heifload_buffer",
}


def readable_formats() -> tuple[str, ...]:
    """Returns those of `FORMATS` that the installed libvips has a loader for.

    Raises:
        ImageError: libvips cannot be loaded.
    """
    vips = load_vips()
    return tuple(n for n, loader in _LOADERS.items() if vips.type_find("VipsOperation", loader))


def _is_hevc(data: bytes) -> bool:
    """Whether an HEIF file's picture is coded with HEVC, which few builds of libvips decode."""
    return data[4:8] == b"ftyp" and b"hvc1" in data[:_META]


_META = 2**16
"""Bytes of a HEIF file in which the kinds of its items are looked for; they come first."""

_SAMPLES = ("uchar", "ushort")
_COLOURS = ("b-w", "grey16", "srgb", "rgb16")


def _check_header(image: pyvips.Image, name: str, *, origin: str, max_pixels: int) -> None:
    """Refuse, before a pixel is decoded, what the runtime cannot work on."""
    if counted_pixels(image.width, image.height) > max_pixels:
        raise PixelLimitError(
            f"{origin}: found {image.width}x{image.height} pixels"
            f"{told_count(image.width, image.height)}, expected at most {max_pixels}; "
            "--max-pixels raises the limit"
        )
    if image.format not in _SAMPLES:
        raise ImageError(
            f"{origin}: found samples of type {image.format!r}, "
            "expected unsigned integers of 8 or 16 bits; convert it first"
        )
    if image.interpretation not in _COLOURS or not 1 <= image.bands <= 4:
        raise ImageError(
            f"{origin}: found {image.bands} samples a pixel in the colour space "
            f"{image.interpretation!r}, expected grey or RGB with or without alpha; "
            "convert it first"
        )
    pages = _number(image, "n-pages", default=1)
    if pages != 1:
        raise ImageError(
            f"{origin}: found {pages} pages or frames in one {name} file, expected one picture; "
            "save the wanted one on its own"
        )
    if _number(image, "n-subifds", default=0) != 0:
        raise ImageError(
            f"{origin}: found a TIFF file with sub-images, as camera raw files are, expected one "
            "picture; develop or export it first"
        )


def _coding(image: pyvips.Image, name: str, data: bytes) -> Coding | None:
    if name == "JPEG":
        return coding_of_jpeg(data)
    if name == "WebP":
        return coding_of_webp(data)
    if name == "AVIF/HEIF":
        return Coding(bits=_number(image, "bits-per-sample", default=8))
    return None


def _can_be_copied(name: str, image: pyvips.Image, coding: Coding | None) -> bool:
    """Whether the file is lossy and shows its samples upright, as they are stored.

    AVIF is left out: it can turn its samples in more ways than libvips tells.
    """
    lossy = name == "JPEG" or (name == "WebP" and coding is not None)
    return lossy and _number(image, "orientation", default=1) == 1


def _number(image: pyvips.Image, name: str, *, default: int) -> int:
    return int(image.get(name)) if image.get_typeof(name) else default


def _resolution(found: float) -> float:
    """What libvips found, if that can be written and is not its 1.0 for files that say nothing."""
    return found if 0 < found <= 1e6 and found != 1.0 else DEFAULT_RESOLUTION


_KEPT = (ICC_FIELD, "exif-data", "xmp-data", "iptc-data", "resolution-unit")


def _metadata(image: pyvips.Image, *, origin: str) -> dict[str, bytes | str]:
    """The fields to carry to the output, as long as they are of a size that can be meant.

    Some versions of libvips drop a tag from "exif-data" at writing if its "exif-ifd…" field is
    missing, so both are kept.
    """
    kept: dict[str, bytes | str] = {}
    for name in image.get_fields():
        if name not in _KEPT and not name.startswith("exif-ifd"):
            continue
        try:
            value = image.get(name)
        except UnicodeDecodeError:  # a text tag that is not UTF-8: pyvips cannot hand it over
            continue
        kept[name] = _upright(value) if name == "xmp-data" else value
    size = sum(map(len, kept.values()))
    if size > MAX_METADATA:
        raise ImageError(
            f"{origin}: found {size} bytes of metadata, expected at most {MAX_METADATA}; "
            "remove what is not needed from the file"
        )
    return kept


def _upright(xmp: bytes) -> bytes:
    """XMP repeats the EXIF orientation: it must not turn the picture a second time."""
    return re.sub(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)[2-8]", rb"\g<1>1", xmp)
