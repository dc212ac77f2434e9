"""Photographs and masks as files: read in one go, written whole or not at all.

Which formats, depths and metadata are read and written: see `m2a.runtime.decoding` and
`m2a.runtime.encoding`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2a.errors import ImageError, ImageNotFoundError, UsageError
from m2a.files import atomic_write, check_name, check_writable, read_regular
from m2a.runtime.decoding import MAX_PIXELS, counted_pixels, decode_photo, largest_file
from m2a.runtime.encoding import JPEG_QUALITY, OUTPUT_SUFFIXES, check_encodable, encode_photo
from m2a.runtime.photo import Photo

__all__ = [
    "JPEG_QUALITY",
    "MAX_PIXELS",
    "OUTPUT_SUFFIXES",
    "Photo",
    "check_output",
    "is_as_read",
    "read_mask",
    "read_photo",
    "write_encoded",
    "write_mask",
    "write_photo",
]


def read_photo(path: Path, *, max_pixels: int = MAX_PIXELS) -> Photo:
    """Read one photograph, turned upright.

    The file is read once, so one that is replaced meanwhile cannot mix with its successor.

    Args:
        path: the file; its suffix does not matter.
        max_pixels: the most pixels accepted, as `counted_pixels` counts them; checked in the
            header, before decoding.

    Raises:
        ImageError: the file is missing, empty, damaged, truncated, too large or not supported.
    """
    data = _read_bytes(path, limit=largest_file(max_pixels))
    photo = decode_photo(data, origin=str(path), max_pixels=max_pixels)
    return replace(photo, sha256=hashlib.sha256(data).hexdigest())


def is_as_read(path: Path, photo: Photo, *, max_pixels: int = MAX_PIXELS) -> bool:
    """Whether a file is still what a photo was read from, by its content.

    Args:
        path: the file.
        photo: what `read_photo` made of it, or what was made of that; one that was not read from a
            file has nothing to be compared with.
        max_pixels: as it was read with.
    """
    if photo.sha256 is None:
        return True
    try:
        content = read_regular(path, limit=largest_file(max_pixels))
    except OSError:
        return False
    return hashlib.sha256(content).hexdigest() == photo.sha256


def write_photo(
    path: Path,
    photo: Photo,
    *,
    overwrite: bool,
    quality: int | None = None,
) -> None:
    """Write a photograph in the format that the suffix names, atomically.

    Args:
        path: the file to write; its folder must exist.
        photo: pixels and alpha to write, and the metadata to keep.
        overwrite: whether an existing file may be replaced.
        quality: 1 to 100, for JPEG, WebP and AVIF; None as `m2a.runtime.encoding` says.

    Raises:
        UsageError: as `check_output`.
        ImageError: the picture cannot be encoded or the file cannot be written. An existing
            file is then untouched.
    """
    check_before_encoding(path, overwrite=overwrite, photo=photo, quality=quality)
    data = encode_photo(photo, suffix=path.suffix, quality=quality, origin=str(path))
    write_encoded(path, data, overwrite=overwrite)


def write_encoded(
    path: Path,
    data: bytes,
    *,
    overwrite: bool,
    before: Callable[[bytes], None] | None = None,
) -> None:
    """Write the content of a picture's file, atomically.

    Args:
        path: the file to write; its folder must exist.
        data: its content.
        overwrite: whether an existing file may be replaced.
        before: called with the content before anything is written; what it raises, ends it.

    Raises:
        UsageError: as `check_target`.
        ImageError: the file cannot be written. An existing file is then untouched.
    """
    try:
        if before is not None:
            before(data)
        atomic_write(path, data, overwrite=overwrite)
    except OSError as error:
        raise _unwritable(path, error) from error


def check_output(
    path: Path, *, overwrite: bool, photo: Photo | None = None, quality: int | None = None
) -> None:
    """Refuse an output that `write_photo` would refuse, before any work is done.

    Args:
        path: the file to be written.
        overwrite: whether an existing file may be replaced.
        photo: the photograph, if it is known already: its alpha and size must fit the format.
        quality: as in `write_photo`.

    Raises:
        UsageError: the suffix is not supported; the file exists and `overwrite` is false; `path`
            is a folder or its folder is missing; the format cannot hold the photograph's alpha
            or size; the quality is out of range or the format is always lossless.
        ImageError: the file system refuses the name.
    """
    check_before_encoding(path, overwrite=overwrite, photo=photo, quality=quality)
    try:
        check_writable(path)
    except OSError as error:
        raise _unwritable(path, error) from error


def check_before_encoding(
    path: Path, *, overwrite: bool, photo: Photo | None, quality: int | None = None
) -> None:
    """`check_output` without the trial whether a file can be created: that is about to be seen."""
    check_encodable(suffix=path.suffix, photo=photo, quality=quality, origin=str(path))
    try:
        check_name(path, overwrite=overwrite)
    except OSError as error:
        raise _unwritable(path, error) from error


def write_mask(path: Path, mask: NDArray[np.bool_], *, overwrite: bool) -> None:
    """Write a mask as an 8-bit grey PNG, atomically.

    Args:
        path: the file to write, with the suffix .png.
        mask: [H, W] bool; true is written as 255, false as 0.
        overwrite: whether an existing file may be replaced.

    Raises:
        ValueError: `mask` is not a non-empty boolean [H, W].
        UsageError: the suffix is not .png; otherwise as `check_output`.
        ImageError: the file cannot be written.
    """
    if mask.dtype != np.bool_ or mask.ndim != 2 or mask.size == 0:
        raise ValueError(f"mask: found {mask.dtype} {mask.shape}, expected bool [H, W]")
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path}: found the suffix {path.suffix!r}, expected .png for a mask")
    grey = np.where(mask, np.uint8(255), np.uint8(0))
    write_photo(path, Photo(pixels=grey[:, :, np.newaxis]), overwrite=overwrite)


def read_mask(path: Path, *, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Read a mask from any picture that `read_photo` reads.

    A pixel is active where the mean of its colour samples is above half of the range (from 128
    in 8 bits); alpha does not count.

    Args:
        path: the file.
        shape: the expected (height, width): that of the upright photograph.

    Returns:
        [H, W] bool.

    Raises:
        ImageError: as `read_photo`.
        UsageError: the picture is not of the expected size.
    """
    photo = read_photo(path, max_pixels=max(MAX_PIXELS, counted_pixels(*shape)))
    found = photo.pixels.shape[:2]
    if found != shape:
        raise UsageError(
            f"{path}: found a mask of {found[1]}x{found[0]} pixels (width x height), "
            f"expected {shape[1]}x{shape[0]} as the photo has"
        )
    total = photo.pixels.sum(axis=2, dtype=np.uint32)
    full = photo.pixels.shape[2] * np.iinfo(photo.pixels.dtype).max
    active: NDArray[np.bool_] = 2 * total > full
    return active


def _read_bytes(path: Path, *, limit: int) -> bytes:
    try:
        if path.exists() and not path.is_file():
            found = "a folder" if path.is_dir() else "something that is not a regular file"
            raise ImageError(f"{path}: found {found}, expected a picture")
        return read_regular(path, limit=limit)
    except FileNotFoundError:
        raise ImageNotFoundError(f"{path}: found no such file, expected a picture") from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error


def _unwritable(path: Path, error: OSError) -> ImageError:
    return ImageError(f"{path}: cannot be written: {error.strerror}")
