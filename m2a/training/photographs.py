"""Photographs from a folder, and a sheet of samples to look at."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from m2a.errors import TrainingError
from m2a.training.opencv import cv2

if TYPE_CHECKING:
    from m2a.training.samples import Pictures

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def load_photographs(
    folder: Path, *, exclude: Collection[str] = (), only: Collection[str] = ()
) -> list[NDArray[np.uint8]]:
    """Decode every photograph in a folder, in the order of their names.

    Args:
        folder: a directory; subdirectories and files without an image suffix are passed over.
        exclude: as for `find_photographs`.
        only: as for `find_photographs`.

    Returns:
        uint8 [H, W, 3] arrays, sRGB, upright.

    Raises:
        TrainingError: as `find_photographs`, or one cannot be decoded.
    """
    return [_decode(path) for path in find_photographs(folder, exclude=exclude, only=only)]


def find_photographs(
    folder: Path, *, exclude: Collection[str] = (), only: Collection[str] = ()
) -> list[Path]:
    """The files of the photographs in a folder, in the order of their names.

    Args:
        folder: a directory; subdirectories and files without an image suffix are passed over.
        exclude: names, without suffix, of photographs to leave out.
        only: names, without suffix, of the photographs to take, which must all be there; empty
            takes all.

    Returns:
        At least one file.

    Raises:
        TrainingError: the folder does not exist, holds no photograph or lacks one of `only`.
    """
    expected = f"files ending in {', '.join(IMAGE_SUFFIXES)}"
    if not folder.is_dir():
        raise TrainingError(f"{folder} is not a directory; expected one with {expected}.")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    missing = sorted(set(only) - {path.stem for path in found})
    if missing:
        raise TrainingError(f"{folder} holds no photographs named {', '.join(missing)}.")
    files = [p for p in found if p.stem not in exclude and (not only or p.stem in only)]
    if found and not files:
        raise TrainingError(
            f"{folder} holds {len(found)} photographs, all of them left out by name; "
            "expected at least one more."
        )
    if not files:
        raise TrainingError(
            f"{folder} holds no photographs; expected {expected}. "
            "Name a directory of sharp photographs."
        )
    return files


def digest(files: Sequence[Path]) -> str:
    """SHA-256 of the contents of files one after another, in hexadecimal digits."""
    total = hashlib.sha256()
    for path in files:
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def contact_sheet(samples: Sequence[Pictures], *, columns: int = 1) -> NDArray[np.uint8]:
    """Samples side by side, each as blurred, sharp and mask.

    Args:
        samples: at least one, all of one size.
        columns: samples in a row.

    Returns:
        uint8 [rows * H, columns * 3 * W, 3], sRGB. The mask is black where nothing moves, grey
        where something moves unseen and white where the blur is visible.

    Raises:
        ValueError: no samples, or of several sizes, or columns < 1.
    """
    sizes = {sample.mask.shape for sample in samples}
    if len(sizes) != 1 or columns < 1:
        raise ValueError(
            f"a contact sheet of {len(samples)} samples of sizes {sorted(sizes)} in {columns} "
            "columns cannot be made; expected one or more samples of one size"
        )
    triples = []
    for sample in samples:
        grey = sample.mask * np.uint8(110) + (sample.visible & sample.mask) * np.uint8(145)
        triples.append(np.hstack([sample.blurred, sample.sharp, np.dstack([grey] * 3)]))
    while len(triples) % columns:
        triples.append(np.zeros_like(triples[0]))
    rows = [np.hstack(triples[i : i + columns]) for i in range(0, len(triples), columns)]
    return np.vstack(rows)


def _decode(path: Path) -> NDArray[np.uint8]:
    data = np.frombuffer(path.read_bytes(), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise TrainingError(
            f"{path} cannot be decoded as an image; remove it from the folder or replace it."
        )
    photo: NDArray[np.uint8] = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return photo
