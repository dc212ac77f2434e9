"""The float inputs of the two graphs, gathered from the samples of the source.

A picture becomes float only where a graph reads it, and in slices that stay in a core's cache:
the samples of an 8-bit source are a quarter of the bytes.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from m2a.runtime.pixels import Pixels
from m2a.runtime.sites import BORDER, PATCH
from m2a.runtime.workers import ALONE, Buffer, Workers

__all__ = [
    "extract_patches",
    "mask_graph_image",
    "to_planes",
    "to_unit",
    "unit_patches",
    "unit_planes",
    "without_border",
]

Samples = TypeVar("Samples", bound=np.generic)

_RUN = 3 * PATCH
"""Samples of one row of a patch, which lie side by side in memory."""

_PATCHES_AT_A_TIME = 8192
_SAMPLES_AT_A_TIME = 2**18


def to_unit(
    samples: Pixels, scale: float, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Converts samples of any shape to f32 in [0, 1]: each is rounded to f32, then divided."""
    unit: NDArray[np.float32] = np.divide(
        samples, np.float32(scale), out=out, dtype=np.float32, casting="same_kind"
    )
    return unit


def mask_graph_image(surroundings: NDArray[Samples]) -> NDArray[Samples]:
    """The input `image` of the mask graph: the padded picture without its border.

    Args:
        surroundings: [H' + 4, W' + 4, 3] of any dtype, as `pad_image` returns it.

    Returns:
        [1, 3, H', W'] of the same dtype, C-contiguous.
    """
    return to_planes(without_border(surroundings))


def to_planes(samples: NDArray[Samples]) -> NDArray[Samples]:
    """Returns [1, 3, H, W], C-contiguous, of [H, W, 3] of any dtype."""
    return np.ascontiguousarray(samples.transpose(2, 0, 1))[None]


def without_border(surroundings: NDArray[Samples]) -> NDArray[Samples]:
    """A view of [H' + 4, W' + 4, 3] without the two pixels around it."""
    return surroundings[BORDER:-BORDER, BORDER:-BORDER]


def unit_planes(
    samples: Pixels,
    scale: float,
    *,
    workers: Workers = ALONE,
    buffer: Buffer[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Makes a float picture of samples, with the channels in planes, some rows at a time.

    Args:
        samples: [H, W, 3] of any dtype.
        scale: the value of white.
        workers: threads that share the work.
        buffer: whose array is returned; a new one where none is given.

    Returns:
        f32 [1, 3, H, W] in [0, 1].
    """
    height, width = samples.shape[:2]
    image = (buffer or Buffer(np.float32)).take((1, 3, height, width))

    def convert(rows: slice) -> None:
        # In two steps: a division that reads across the channels would take twice as long.
        planes = np.ascontiguousarray(samples[rows].transpose(2, 0, 1))
        to_unit(planes, scale, out=image[0, :, rows])

    workers.over(height, max(1, _SAMPLES_AT_A_TIME // (3 * width)), convert)
    return image


def extract_patches(surroundings: NDArray[Samples], pixels: NDArray[np.int64]) -> NDArray[Samples]:
    """Gathers the 5×5 RGB neighbourhood of each active pixel.

    Args:
        surroundings: [H + 4, W + 4, 3] of any dtype, C-contiguous, as `pad_image` returns it.
        pixels: int64 [N], row-major indices into [H, W].

    Returns:
        [N, 75] of the same dtype in the order (ky, kx, c).
    """
    padded_width = surroundings.shape[1]
    y, x = np.divmod(pixels, padded_width - 2 * BORDER)
    first = (y * padded_width + x) * 3
    # Gather runs, not single values.
    runs = np.lib.stride_tricks.sliding_window_view(surroundings.reshape(-1), _RUN)
    starts = first[:, None] + np.arange(PATCH) * (padded_width * 3)
    patches: NDArray[Samples] = runs[starts].reshape(len(pixels), _RUN * PATCH)
    return patches


def unit_patches(
    surroundings: Pixels,
    pixels: NDArray[np.int64],
    scale: float,
    *,
    workers: Workers = ALONE,
    buffer: Buffer[np.float32] | None = None,
) -> NDArray[np.float32]:
    """`to_unit(extract_patches(surroundings, pixels), scale)`, some patches at a time.

    The array is the buffer's, or new where none is given.
    """
    patches = (buffer or Buffer(np.float32)).take((len(pixels), _RUN * PATCH))

    def gather(rows: slice) -> None:
        to_unit(extract_patches(surroundings, pixels[rows]), scale, out=patches[rows])

    workers.over(len(pixels), _PATCHES_AT_A_TIME, gather)
    return patches
