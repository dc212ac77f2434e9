"""A photograph in memory, and its way from and to the bytes of a file.

Read: JPEG, PNG, TIFF, WebP, and AVIF/HEIF as far as the installed libvips has the codec. The
format is recognised by the content, never by a name. 8 and 16 bits, grey or RGB, with or without
alpha; palettes and 1-, 2- and 4-bit samples are expanded to 8 bits, 10- and 12-bit AVIF is
shifted up to 16, and premultiplied TIFF colours are divided by their alpha. The EXIF orientation is
applied. ICC profiles are carried along, not applied. Refused: CMYK and Lab, floating point and
32-bit samples, files with more than one page or frame, and TIFF files with sub-images, which is
what most camera raw files are.

Written: JPEG, PNG, TIFF, WebP, by the output's suffix.

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

libvips sees contents, never file names, which it would parse for options in brackets.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from m2a.errors import ImageError, UsageError

if TYPE_CHECKING:
    import pyvips

__all__ = [
    "JPEG_QUALITY",
    "MAX_PIXELS",
    "OUTPUT_SUFFIXES",
    "Photo",
    "check_encodable",
    "decode_photo",
    "encode_photo",
]

MAX_PIXELS = 2**28
"""Pixels (H·W) accepted unless told otherwise: 16384 squared."""

JPEG_QUALITY = 95
"""The default JPEG quality: the coding loss stays well below what deblurring changes."""

_DEFAULT_RESOLUTION = 72 / 25.4  # 72 dpi, EXIF's default, in pixels per millimetre


@dataclass(frozen=True, kw_only=True, eq=False)
class Photo:
    """A decoded photograph, upright, and what is needed to write it back.

    To write changed pixels: `write_photo(path, dataclasses.replace(photo, pixels=new), …)`.
    The arrays are not copied; a decoded photo's arrays belong to it alone.

    Attributes:
        pixels: [H, W, 3] RGB or [H, W, 1] grey, uint8 or uint16, the full range of the type,
            as encoded in the file (no linearisation, no colour conversion).
        alpha: [H, W], dtype of `pixels`, not premultiplied; None if there is none.
        format: the source's format, such as "JPEG"; None if the photo was not decoded.
        icc_profile: the embedded ICC profile, byte for byte.
        metadata: libvips' EXIF, XMP and IPTC fields, to be handed on and not looked into.
        resolution: horizontal and vertical resolution in pixels per millimetre.

    Raises:
        ValueError: shapes or dtypes are not as stated.
    """

    pixels: NDArray[np.uint8 | np.uint16]
    alpha: NDArray[np.uint8 | np.uint16] | None = None
    format: str | None = None
    icc_profile: bytes | None = None
    metadata: Mapping[str, bytes | str] = field(default_factory=dict, repr=False)
    resolution: tuple[float, float] = (_DEFAULT_RESOLUTION, _DEFAULT_RESOLUTION)

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


def decode_photo(data: bytes, *, origin: str, max_pixels: int = MAX_PIXELS) -> Photo:
    """Decode one photograph and turn it upright.

    The samples are those of the file: no colour conversion, no rescaling (the module's
    docstring lists the exceptions).

    Args:
        data: the whole content of a picture file.
        origin: what error messages call it: the file's name.
        max_pixels: the largest H·W accepted; checked in the header, before decoding.

    Raises:
        ImageError: the data are empty, damaged, truncated, too large or not supported.
    """
    name = _recognise(data)
    if name is None:
        raise ImageError(
            f"{origin}: found {'an unknown kind of file' if data else 'an empty file'}, "
            f"expected a picture: {', '.join(_LOADERS)}"
        )
    vips = _vips()
    try:
        # "error": libvips would otherwise fill what a damaged file lacks with grey or black.
        image = getattr(vips.Image, _LOADERS[name])(data, access="sequential", fail_on="error")
        _check_header(image, name, origin=origin, max_pixels=max_pixels)
        if _number(image, "orientation", default=1) != 1:
            image = image.copy_memory().autorot()  # turning needs more than sequential access
        samples = image.numpy().reshape(image.height, image.width, image.bands)
        metadata = _metadata(image)
    except (vips.Error, UnicodeDecodeError) as error:
        # pyvips fails on a message that quotes a damaged file's bytes, and leaves it standing.
        vips.vips_lib.vips_error_clear()
        raise ImageError(
            f"{origin}: found a damaged or unsupported {name} file ({_one_line(error)}), "
            "expected one that decodes completely"
        ) from error
    colours = 3 if image.bands >= 3 else 1
    icc_profile = metadata.pop(_ICC, None)
    return Photo(
        pixels=np.ascontiguousarray(samples[:, :, :colours]),
        alpha=np.ascontiguousarray(samples[:, :, colours]) if image.bands > colours else None,
        format=name,
        icc_profile=icc_profile if isinstance(icc_profile, bytes) else None,
        metadata=metadata,
        resolution=(_resolution(image.xres), _resolution(image.yres)),
    )


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
    vips = _vips()
    try:
        image = _vips_image(vips, photo, eight_bits=not output.sixteen_bits)
        return _encode(image, output, quality=quality, keep=_keep(vips, photo, output))
    except vips.Error as error:
        raise ImageError(
            f"{origin}: cannot be encoded as {output.name}: {_one_line(error)}"
        ) from error


# --- formats ---------------------------------------------------------------------------------


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

# Named here and not left to libvips' search, which knows vector graphics and the like too, and
# takes a JPEG with a gain map for a high dynamic range picture of floating point samples.
_LOADERS = {
    "JPEG": "jpegload_buffer",
    "PNG": "pngload_buffer",
    "TIFF": "tiffload_buffer",
    "WebP": "webpload_buffer",
    "AVIF/HEIF": "heifload_buffer",
}


def _recognise(data: bytes) -> str | None:
    """The format, by the file's first bytes."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"heic", b"heix", b"mif1"):
        return "AVIF/HEIF"
    return None


# --- decoding --------------------------------------------------------------------------------

_SAMPLES = ("uchar", "ushort")
_COLOURS = ("b-w", "grey16", "srgb", "rgb16")


def _check_header(image: pyvips.Image, name: str, *, origin: str, max_pixels: int) -> None:
    """Refuse, before a pixel is decoded, what the runtime cannot work on."""
    if image.width * image.height > max_pixels:
        raise ImageError(
            f"{origin}: found {image.width}x{image.height} pixels, expected at most {max_pixels}"
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


def _number(image: pyvips.Image, name: str, *, default: int) -> int:
    return int(image.get(name)) if image.get_typeof(name) else default


def _resolution(found: float) -> float:
    """What libvips found, if that can be written and is not its 1.0 for files that say nothing."""
    return found if 0 < found <= 1e6 and found != 1.0 else _DEFAULT_RESOLUTION


_ICC = "icc-profile-data"
_KEPT = (_ICC, "exif-data", "xmp-data", "iptc-data", "resolution-unit")


def _metadata(image: pyvips.Image) -> dict[str, bytes | str]:
    """The fields to carry to the output.

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
    return kept


def _upright(xmp: bytes) -> bytes:
    """XMP repeats the EXIF orientation: it must not turn the picture a second time."""
    return re.sub(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)[2-8]", rb"\g<1>1", xmp)


def _one_line(error: Exception) -> str:
    """The many lines of libvips' explanation as one, without repetitions."""
    detail = getattr(error, "detail", None) or str(error)
    lines = dict.fromkeys(line.strip() for line in detail.splitlines())
    said = [line for line in lines if line and not line.startswith("source: bad seek")]
    return "; ".join(said) or "no reason given"


# --- encoding --------------------------------------------------------------------------------


def _vips_image(vips: ModuleType, photo: Photo, *, eight_bits: bool) -> pyvips.Image:
    """A libvips image that refers to the photo's samples and carries its metadata."""
    samples = photo.pixels
    if photo.alpha is not None:
        samples = np.concatenate([samples, photo.alpha[:, :, np.newaxis]], axis=2)
    if eight_bits and photo.bits == 16:
        # 65535 = 255 · 257: to the nearest, so that 0 and white stay what they are.
        samples = ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)
    samples = np.ascontiguousarray(samples)
    height, width, bands = samples.shape
    wide = samples.dtype == np.uint16
    colour = ("rgb16" if wide else "srgb") if bands >= 3 else ("grey16" if wide else "b-w")
    image = vips.Image.new_from_memory(
        samples, width, height, bands, "ushort" if wide else "uchar"
    ).copy(interpretation=colour, xres=photo.resolution[0], yres=photo.resolution[1])
    fields = dict(photo.metadata)
    if photo.icc_profile is not None:
        fields[_ICC] = photo.icc_profile
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


# --- the library -----------------------------------------------------------------------------


@functools.cache
def _vips() -> ModuleType:
    """pyvips, imported at the first use: whoever only works on arrays never loads libvips.

    Its warnings go to the logger "pyvips", never to standard error.
    """
    try:
        return importlib.import_module("pyvips")
    except (ImportError, OSError) as error:
        raise ImageError(
            f"libvips, which reads and writes pictures, cannot be loaded: {error}; "
            "install it with: pip install 'pyvips[binary]'"
        ) from error
