"""What deblurring a picture gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2a.runtime.pixels import Pixels


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a call returns; the arrays are the caller's.

    Attributes:
        image: the deblurred picture, with the shape, dtype and range of the input.
        mask: bool [H, W], the pixels that were restored: after threshold and dilation, or the
            mask that was given.
        probability: f32 [H, W] of visible motion blur, from the mask predictor; None where a
            mask was given.
        coverage: active pixels / all pixels, 0 to 1.
        motion: f32 [H'/4, W'/4, 4], the trajectory d(t) = a·t + b·t², t ∈ [-1, 1], as
            (a_x, a_y, b_x, b_y) in pixels per 4×4 cell, where H' and W' are H and W rounded up
            to multiples of 32; NaN where nothing was restored. a and -a give the same blur.
        seconds: wall time per stage, in the order in which they ran.
        backend: who computed the graphs.
    """

    image: Pixels
    mask: NDArray[np.bool_]
    probability: NDArray[np.float32] | None
    coverage: float
    motion: NDArray[np.float32]
    seconds: Mapping[str, float]
    backend: str
