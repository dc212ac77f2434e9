"""Cut-outs: pictures of single things with an alpha channel, to be pasted and moved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2a.errors import TrainingError
from m2a.runtime.images import read_photo
from m2a.runtime.photo import eight_bits
from m2a.training.layers import SWEPT_ALPHA
from m2a.training.light import to_display, to_linear
from m2a.training.opencv import cv2
from m2a.training.photographs import digest

SUFFIXES = (".png", ".tif", ".tiff", ".webp")

MAX_SIDE = 1024
"""A cut-out's longer side in pixels, to which larger ones are scaled down when they are read."""

_BORDER = 2  # of zeros; as far as cubic interpolation reaches
_Image = NDArray[np.float32]


def load_cutouts(folder: Path | None) -> list[NDArray[np.uint8]]:
    """Decode every cut-out in a folder, in the order of their names.

    Args:
        folder: a directory; subdirectories and files without one of `SUFFIXES` are passed over.
            None holds none.

    Returns:
        uint8 [H, W, 4] arrays, sRGB and alpha, not premultiplied, upright; cropped to where alpha
        exceeds 5 %, their sides at most `MAX_SIDE`.

    Raises:
        TrainingError: the folder does not exist or holds no cut-out, or a file has no alpha
            channel, or is transparent or opaque everywhere.
        ImageError: a file cannot be decoded.
    """
    return [] if folder is None else [_load(path) for path in _find_cutouts(folder)]


def digest_cutouts(folder: Path | None) -> str | None:
    """`digest` of the cut-outs in a folder, None where there is no folder; errors as above."""
    return None if folder is None else digest(_find_cutouts(folder))


def _find_cutouts(folder: Path) -> list[Path]:
    """The files of the cut-outs in a folder, in the order of their names."""
    expected = f"pictures with an alpha channel, in files ending in {', '.join(SUFFIXES)}"
    if not folder.is_dir():
        raise TrainingError(f"{folder} is not a directory; expected one with {expected}.")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        raise TrainingError(f"{folder} holds no cut-outs; expected {expected}.")
    return files


def draw_cutout(
    rng: np.random.Generator, cutouts: Sequence[NDArray[np.uint8]], extent: float
) -> _Image:
    """A random cut-out, scaled, mirrored, turned and with an exposure of its own.

    Args:
        rng: source of randomness.
        cutouts: what `load_cutouts` returns, at least one.
        extent: length of its longer side before it is turned, px. A smaller cut-out keeps its
            size: enlarged it would look out of focus.

    Returns:
        float32 [h, w, 4], linear light premultiplied by alpha, and alpha in [0, 1]; its outermost
        rows and columns are zero.
    """
    cutout = cutouts[int(rng.integers(len(cutouts)))]
    rgba = _shrunk(_premultiplied(cutout), extent)
    if rng.random() < 0.5:
        rgba = rgba[:, ::-1]
    # Most things have an upright; some photographs are taken on edge.
    if rng.random() < 0.3:
        rgba = np.rot90(rgba, int(rng.integers(4)))
    rgba = np.pad(rgba, ((_BORDER, _BORDER), (_BORDER, _BORDER), (0, 0)))
    if rng.random() < 0.5:
        rgba = _turned(rgba, float(rng.normal(0.0, 12.0)))
    rgba[:, :, :3] *= np.float32(np.exp(rng.uniform(np.log(0.6), np.log(1.5))))
    np.minimum(rgba[:, :, :3], rgba[:, :, 3:], out=rgba[:, :, :3])
    return rgba


def _load(path: Path) -> NDArray[np.uint8]:
    photo = read_photo(path)
    if photo.alpha is None:
        raise TrainingError(
            f"{path} has no alpha channel; expected a thing cut out, transparent around it. "
            "Cut it out or take the file from the folder."
        )
    alpha = eight_bits(photo.alpha)
    if alpha.min() == 255:
        raise TrainingError(
            f"{path} is opaque everywhere; expected a thing cut out, transparent around it. "
            "Cut it out or take the file from the folder."
        )
    covered = alpha > 255 * SWEPT_ALPHA
    if not covered.any():
        raise TrainingError(
            f"{path} is transparent everywhere: its largest alpha is {alpha.max() / 255:.1%}, "
            f"expected more than {SWEPT_ALPHA:.0%}. Take the file from the folder."
        )
    rows, columns = (np.flatnonzero(covered.any(axis=axis)) for axis in (1, 0))
    colours = np.broadcast_to(eight_bits(photo.pixels), (*alpha.shape, 3))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    cutout = np.dstack([colours[box], alpha[box]])
    return cutout if max(cutout.shape[:2]) <= MAX_SIDE else _reduced(cutout)


def _reduced(cutout: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scales a large cut-out down, in linear light."""
    rgba = _shrunk(_premultiplied(cutout), MAX_SIDE)
    alpha = rgba[:, :, 3:]
    colours = np.divide(rgba[:, :, :3], alpha, out=np.zeros_like(rgba[:, :, :3]), where=alpha > 0)
    display = np.dstack([to_display(colours), alpha])
    levels: NDArray[np.uint8] = np.rint(display * np.float32(255.0)).astype(np.uint8)
    return levels


def _premultiplied(cutout: NDArray[np.uint8]) -> _Image:
    alpha = cutout[:, :, 3:].astype(np.float32) / np.float32(255.0)
    return np.dstack([to_linear(np.ascontiguousarray(cutout[:, :, :3])) * alpha, alpha])


def _shrunk(rgba: _Image, extent: float) -> _Image:
    height, width = rgba.shape[:2]
    scale = extent / max(height, width)
    if scale >= 1.0:
        return rgba
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    shrunk: _Image = cv2.resize(rgba, size, interpolation=cv2.INTER_AREA)
    return shrunk


def _turned(rgba: _Image, degrees: float) -> _Image:
    """Turned about its middle; as large as it has to be for that, its outermost pixels zero."""
    height, width = rgba.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2.0, (height - 1) / 2.0), degrees, 1.0)
    cos, sin = np.abs(matrix[0, :2])
    size = int(np.ceil(cos * width + sin * height)), int(np.ceil(sin * width + cos * height))
    matrix[:, 2] += (np.array(size) - (width, height)) / 2.0
    turned: _Image = cv2.warpAffine(rgba, matrix, size, flags=cv2.INTER_CUBIC)
    # Cubic interpolation overshoots at edges: colours and alpha together, or halos would show.
    turned /= np.maximum(turned[:, :, 3:], np.float32(1.0))
    np.maximum(turned, np.float32(0.0), out=turned)
    turned[[0, -1]] = 0.0
    turned[:, [0, -1]] = 0.0
    return turned
