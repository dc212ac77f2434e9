"""Pieces of photographs in linear light: scenes, textures, what lies behind, and defocus."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from m2a.training.light import to_linear
from m2a.training.opencv import cv2

_Image = NDArray[np.float32]
_Photo = NDArray[np.uint8]


def draw_crop(
    rng: np.random.Generator, photo: _Photo, height: int, width: int, scale: tuple[float, float]
) -> _Image:
    """A random crop, scaled by a log-uniform factor, mirrored and turned by multiples of 90°.

    Args:
        rng: source of randomness.
        photo: uint8 [H, W, 3], sRGB.
        height: rows of the crop.
        width: columns of the crop.
        scale: range of the factor; raised as far as the photograph's size makes it necessary.

    Returns:
        float32 [height, width, 3], linear light, contiguous.
    """
    return _resized(*_draw_source(rng, photo, height, width, scale), height, width)


def draw_texture(
    rng: np.random.Generator,
    photo: _Photo,
    height: int,
    width: int,
    scale: tuple[float, float],
    *,
    candidates: int = 4,
) -> _Image:
    """The most textured of a few crops, or (one time in five) any crop, with its own exposure.

    Args:
        rng: source of randomness.
        photo: uint8 [H, W, 3], sRGB.
        height: rows.
        width: columns.
        scale: range of the photograph's scale.
        candidates: how many crops compete by the energy of their gradients.

    Returns:
        float32 [height, width, 3], linear light, at most 1.
    """
    if rng.random() < 0.2:
        candidates = 1
    sources = [_draw_source(rng, photo, height, width, scale) for _ in range(candidates)]
    best = max(sources, key=lambda source: _gradient_energy(source[0], height, width))
    crop = _resized(*best, height, width)
    if rng.random() < 0.3:
        crop = _turned(crop, rng.uniform(-45.0, 45.0))
    crop = crop * np.float32(np.exp(rng.uniform(np.log(0.6), np.log(1.5))))
    return np.minimum(crop, np.float32(1.0))


def fill_behind(rng: np.random.Generator, scene: _Image, hole: _Image) -> _Image:
    """Replace the content of a hole by what could plausibly lie there.

    The colours are diffused in from the hole's surroundings, coarse to fine; the texture is that
    of a shifted copy of the scene, as a ratio to its own local mean.

    Args:
        rng: source of randomness.
        scene: float32 [H, W, 3], linear light.
        hole: float32 [H, W] in [0, 1], 1 where the scene has to go.

    Returns:
        float32 [H, W, 3]; equals the scene where `hole` is 0.
    """
    height, width = hole.shape
    small = (max(width // 4, 1), max(height // 4, 1))
    known = cv2.resize((hole <= 0).astype(np.float32), small, interpolation=cv2.INTER_AREA)
    known = (known > 0.99).astype(np.float32)
    colour = cv2.resize(scene, small, interpolation=cv2.INTER_AREA) * known[:, :, None]
    diffused = np.full_like(colour, float(scene.mean()))
    for sigma in (32.0, 12.0, 5.0, 2.0):
        weight = cv2.GaussianBlur(known, (0, 0), sigma)[:, :, None]
        estimate = cv2.GaussianBlur(colour, (0, 0), sigma) / np.maximum(weight, 1e-4)
        diffused += (estimate - diffused) * np.clip(weight * 8.0, 0.0, 1.0)
    base = cv2.resize(diffused, (width, height), interpolation=cv2.INTER_LINEAR)
    columns, rows = np.flatnonzero(hole.max(axis=0)), np.flatnonzero(hole.max(axis=1))
    extent_x = columns[-1] - columns[0] + 1 if columns.size else 0
    extent_y = rows[-1] - rows[0] + 1 if rows.size else 0
    sign = rng.choice([-1.0, 1.0])
    x, y = (sign * extent_x, 0.0) if extent_x < extent_y else (0.0, sign * extent_y)
    matrix = np.array([[1.0, 0.0, np.rint(x)], [0.0, 1.0, np.rint(y)]])
    shifted = cv2.warpAffine(scene, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    mean = cv2.blur(cv2.blur(shifted, (15, 15)), (15, 15))
    ratio = np.clip((shifted + 0.01) / (mean + 0.01), 0.25, 2.5)
    filled: _Image = scene + (base * ratio - scene) * hole[:, :, None]
    return np.clip(filled, 0.0, None)


def defocus(image: _Image, radius: float, *, disc: bool) -> _Image:
    """Blur out of focus, by a disc or a Gaussian of the same spread.

    Args:
        image: float32 [H, W, C], linear light.
        radius: radius of the disc, px.
        disc: a soft-edged disc, else a Gaussian.

    Returns:
        float32 [H, W, C].
    """
    blurred: _Image
    if disc:
        reach = int(np.ceil(radius)) + 1
        grid = np.arange(-reach, reach + 1, dtype=np.float32)
        distance = np.hypot(grid[:, None], grid[None, :])
        kernel = np.clip(radius + 0.5 - distance, 0.0, 1.0)
        kernel /= kernel.sum()
        blurred = cv2.filter2D(image, -1, kernel)
        # The filter's Fourier form may undershoot zero.
        return np.maximum(blurred, np.float32(0.0))
    blurred = cv2.GaussianBlur(image, (0, 0), radius / 2.0)
    return blurred


def draw_partial_weight(rng: np.random.Generator, height: int, width: int) -> _Image:
    """A soft half-plane: float32 [height, width], from 0 to 1 across a ramp of random width."""
    angle = rng.uniform(0.0, 2.0 * np.pi)
    x = (np.arange(width, dtype=np.float32) / width - rng.uniform(0.3, 0.7)) * np.cos(angle)
    y = (np.arange(height, dtype=np.float32) / height - rng.uniform(0.3, 0.7)) * np.sin(angle)
    ramp = (x[None, :] + y[:, None]) / rng.uniform(0.05, 0.5) + 0.5
    weight: _Image = np.clip(ramp, 0.0, 1.0).astype(np.float32)
    return weight


def other_photo(rng: np.random.Generator, photos: Sequence[_Photo], index: int) -> _Photo:
    """Any photograph but the one at `index`; that one if there is no other."""
    if len(photos) == 1:
        return photos[0]
    return photos[(index + int(rng.integers(1, len(photos)))) % len(photos)]


def _draw_source(
    rng: np.random.Generator, photo: _Photo, height: int, width: int, scale: tuple[float, float]
) -> tuple[_Photo, int, bool]:
    """The photograph's own pixels for a crop, the quarter turns and the mirroring."""
    turns, mirror = int(rng.integers(4)), bool(rng.random() < 0.5)
    rows, columns = (width, height) if turns % 2 else (height, width)
    available_rows, available_columns = photo.shape[:2]
    factor = np.exp(rng.uniform(np.log(scale[0]), np.log(scale[1])))
    factor = max(factor, rows / available_rows, columns / available_columns)
    source_rows = min(max(round(rows / factor), 1), available_rows)
    source_columns = min(max(round(columns / factor), 1), available_columns)
    y = int(rng.integers(available_rows - source_rows + 1))
    x = int(rng.integers(available_columns - source_columns + 1))
    return photo[y : y + source_rows, x : x + source_columns], turns, mirror


def _resized(source: _Photo, turns: int, mirror: bool, height: int, width: int) -> _Image:
    size = (height, width) if turns % 2 else (width, height)
    linear = to_linear(source)
    if (source.shape[1], source.shape[0]) != size:
        shrinks = source.shape[1] > size[0]
        kind = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        linear = cv2.resize(linear, size, interpolation=kind)
    turned = np.rot90(linear, turns)
    return np.ascontiguousarray(turned[:, ::-1] if mirror else turned)


def _gradient_energy(source: _Photo, height: int, width: int) -> float:
    """Mean squared gradient at about the size the crop will have."""
    step = max(1, min(source.shape[0] // max(height, 1), source.shape[1] // max(width, 1)))
    grey = source[::step, ::step, 1].astype(np.float32)
    across, down = np.diff(grey, axis=1), np.diff(grey, axis=0)
    return float((across**2).mean() if across.size else 0.0) + float(
        (down**2).mean() if down.size else 0.0
    )


def _turned(crop: _Image, degrees: float) -> _Image:
    height, width = crop.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2.0, height / 2.0), degrees, 1.0)
    turned: _Image = cv2.warpAffine(
        crop, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.clip(turned, 0.0, 1.0)
