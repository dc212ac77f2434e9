"""Pictures to look at: before beside after, and the predicted trajectories over the photo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2a.runtime.photo import Photo, eight_bits
from m2a.runtime.sites import CELL

__all__ = ["STROKE", "Strokes", "compare_picture", "motion_picture", "trajectory_strokes"]

STROKE = (255, 225, 0)
"""The trajectories' colour; their outline is black, so that they show on any ground."""

CHUNK = 1 << 21
"""Distances computed at a time: 40 MB or so."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Strokes:
    """The trajectories that are drawn over a photo, and how wide.

    Attributes:
        curves: f32 [n, 6], per trajectory the middle of its cell (x, y) and (a_x, a_y, b_x, b_y),
            in pixels of the photo; pixel centres have integer coordinates.
        radius: half the width of a stroke, in pixels.
        outline: the width of its black outline, in pixels.
    """

    curves: NDArray[np.float32]
    radius: float
    outline: float


def compare_picture(before: Photo, after: NDArray[np.uint8 | np.uint16]) -> Photo:
    """The photo before and after, side by side.

    Args:
        before: the photo as it was read.
        after: the deblurred pixels, with the shape and dtype of the photo's.

    Returns:
        A photo [H, 2 W + 3 s, C] of the source's depth, colour profile and alpha: before, a
        divider of a black, a white and a black stripe of s pixels, after.
    """
    height, width, channels = before.pixels.shape
    white = np.iinfo(before.pixels.dtype).max
    stripes = np.repeat(np.array((0, white, 0), before.pixels.dtype), max(2, width // 300))
    divider = np.broadcast_to(stripes[None, :, None], (height, stripes.size, channels))
    alpha = before.alpha
    if alpha is not None:
        opaque = np.full((height, stripes.size), white, alpha.dtype)
        alpha = np.concatenate([alpha, opaque, alpha], axis=1)
    return Photo(
        pixels=np.concatenate([before.pixels, divider, after], axis=1),
        alpha=alpha,
        icc_profile=before.icc_profile,
    )


def trajectory_strokes(size: tuple[int, int], motion: NDArray[np.float32]) -> Strokes:
    """Chooses the trajectories d(t) = a·t + b·t², t ∈ [-1, 1], to draw over a photo.

    Of each square of cells the one nearest to its middle is drawn, where any has a trajectory:
    the squares are 24 pixels wide, and in a photo of more than 1200 pixels 1/48 of its longer
    side. A trajectory goes through the middle of its cell, to scale.

    Args:
        size: (H, W) of the photo.
        motion: f32 [H'/4, W'/4, 4], (a_x, a_y, b_x, b_y) in pixels per 4×4 cell, NaN where there
            is none; H' ≥ H, W' ≥ W.
    """
    spacing = max(24, CELL * round(max(size) / 48 / CELL))
    # As wide on a large photo, seen whole, as on a small one.
    return Strokes(curves=_thinned(motion, spacing), radius=spacing / 30, outline=spacing / 24)


def motion_picture(photo: Photo, motion: NDArray[np.float32]) -> Photo:
    """The trajectories that `trajectory_strokes` chooses, drawn over the photo, anti-aliased.

    Args:
        photo: the photo as it was read; its alpha is left out.
        motion: as in `trajectory_strokes`.

    Returns:
        A photo [H, W, 3] of 8 bits, with the colour profile of an RGB photo. Where nothing is
        drawn it is the photo, in 8 bits.
    """
    height, width, channels = photo.pixels.shape
    strokes = trajectory_strokes((height, width), motion)
    radius, edge = strokes.radius, strokes.radius + strokes.outline
    reach = _distances((height, width), strokes.curves, limit=edge + 0.5)
    picture = np.repeat(eight_bits(photo.pixels), 3 // channels, axis=2)
    rows, columns = np.nonzero(np.isfinite(reach))
    distance = reach[rows, columns]
    under = np.clip(edge + 0.5 - distance, 0, 1)[:, None]
    over = np.clip(radius + 0.5 - distance, 0, 1)[:, None]
    ground = picture[rows, columns].astype(np.float32) * (1 - under)
    picture[rows, columns] = np.rint(ground * (1 - over) + np.array(STROKE, np.float32) * over)
    return Photo(pixels=picture, icc_profile=photo.icc_profile if channels == 3 else None)


def _thinned(motion: NDArray[np.float32], spacing: int) -> NDArray[np.float32]:
    """f32 [n, 6]: per trajectory its cell's middle (x, y) and (a_x, a_y, b_x, b_y)."""
    y, x = np.nonzero(np.isfinite(motion).all(axis=2))
    side = spacing // CELL
    square = (y // side) * motion.shape[1] + x // side
    middle = (side - 1) / 2
    off_middle = np.hypot(y % side - middle, x % side - middle)
    order = np.lexsort((off_middle, square))
    _, first = np.unique(square[order], return_index=True)
    y, x = y[order[first]], x[order[first]]
    # Pixel centres have integer coordinates: a cell's middle lies between its second and third.
    centres = np.stack([x, y], axis=1) * CELL + (CELL - 1) / 2
    return np.concatenate([centres, motion[y, x]], axis=1).astype(np.float32)


def _distances(
    size: tuple[int, int], curves: NDArray[np.float32], *, limit: float
) -> NDArray[np.float32]:
    """f32 [H, W], each pixel's distance to the nearest curve; infinite from `limit` on."""
    reach = np.full(size, np.inf, np.float32)
    around = np.arange(-int(np.ceil(limit)), int(np.ceil(limit)) + 1)
    window = np.stack(np.meshgrid(around, around, indexing="ij"), axis=-1).reshape(-1, 2)
    points = _points(curves, step=max(0.5, limit / 4))
    many = max(1, CHUNK // len(window))
    for begin in range(0, len(points), many):
        x, y = points[begin : begin + many].T
        rows = np.rint(y).astype(np.int32)[:, None] + window[:, 0]
        columns = np.rint(x).astype(np.int32)[:, None] + window[:, 1]
        distance = np.hypot(rows - y[:, None], columns - x[:, None]).astype(np.float32)
        inside = (rows >= 0) & (rows < size[0]) & (columns >= 0) & (columns < size[1])
        inside &= distance < limit
        np.minimum.at(reach, (rows[inside], columns[inside]), distance[inside])
    return reach


def _points(curves: NDArray[np.float32], *, step: float) -> NDArray[np.float32]:
    """f32 [m, 2], points (x, y) along the curves, at most `step` pixels apart."""
    centre, a, b = curves[:, 0:2], curves[:, 2:4], curves[:, 4:6]
    # |d'(t)| = |a + 2 b t| is at most |a| + 2 |b|.
    speed = np.hypot(*a.T) + 2 * np.hypot(*b.T)
    counts = np.ceil(2 * speed / step).astype(np.int64) + 1
    curve = np.repeat(np.arange(len(curves)), counts)
    place = np.arange(len(curve)) - np.repeat(np.cumsum(counts) - counts, counts)
    last = np.maximum(counts - 1, 1)[curve]
    t = np.where(counts[curve] > 1, -1 + 2 * place / last, 0).astype(np.float32)[:, None]
    points: NDArray[np.float32] = centre[curve] + a[curve] * t + b[curve] * t * t
    return points
