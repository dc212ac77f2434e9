"""The ways to turn a picture, over which a self-ensemble takes the mean.

What a network makes of a picture differs a little from what it makes of the same picture turned or
mirrored, and the errors are not the same: the mean over all turns is better than any one (geometric
self-ensemble: Timofte, Rothe and Van Gool, "Seven ways to improve example-based single image super
resolution", CVPR 2016). It costs as many times the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from m2a.errors import UsageError

__all__ = [
    "ENSEMBLES",
    "Turn",
    "check_ensemble",
    "logit",
    "mask_turns",
    "sigmoid",
    "turns_of",
]

Sample = TypeVar("Sample", bound=np.generic)

ENSEMBLES = (1, 2, 4, 8)
"""How many turns there may be: the picture; its mirror image; both upside down; all transposed."""

_CERTAIN = 1 - 2.0**-24
"""The largest f32 below 1. A probability counts as at most this, so that its logit is finite."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Transposed or not, then flipped or not.

    Attributes:
        transpose: whether rows become columns.
        flip_y: whether the order of the rows, then, is reversed.
        flip_x: whether that of the columns is.
    """

    transpose: bool = False
    flip_y: bool = False
    flip_x: bool = False

    @property
    def is_identity(self) -> bool:
        """Whether it leaves everything where it is."""
        return self == Turn()

    @property
    def code(self) -> int:
        """As the CUDA kernels take it."""
        return 4 * self.transpose + 2 * self.flip_y + self.flip_x

    def apply(self, plane: NDArray[Sample]) -> NDArray[Sample]:
        """Turns an array [H, W, …]; a view of it."""
        return self._flipped(plane.swapaxes(0, 1) if self.transpose else plane)

    def undo(self, turned: NDArray[Sample]) -> NDArray[Sample]:
        """Turns back what `apply` returned; a view of it."""
        flipped = self._flipped(turned)
        return flipped.swapaxes(0, 1) if self.transpose else flipped

    def _flipped(self, plane: NDArray[Sample]) -> NDArray[Sample]:
        return plane[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]


_TURNS = tuple(
    Turn(transpose=transpose, flip_y=flip_y, flip_x=flip_x)
    for transpose in (False, True)
    for flip_y in (False, True)
    for flip_x in (False, True)
)
"""Every second one is the mirror image of the one before. The first 1, 2, 4 and 8 are each a group:
one after another of them is one of them."""


def check_ensemble(ensemble: int) -> None:
    """Refuses a number of turns that is none of `ENSEMBLES`.

    Raises:
        UsageError: it is none.
    """
    if not isinstance(ensemble, int) or ensemble not in ENSEMBLES:
        expected = ", ".join(map(str, ENSEMBLES[:-1]))
        raise UsageError(f"the ensemble must be {expected} or {ENSEMBLES[-1]}, found {ensemble}")


def turns_of(ensemble: int) -> Sequence[Turn]:
    """The turns of an ensemble, the picture as it is first."""
    return _TURNS[:ensemble]


def mask_turns(ensemble: int, *, mirrored: bool) -> Sequence[Turn]:
    """The turns that the mask graph sees.

    Args:
        ensemble: of `ENSEMBLES`.
        mirrored: whether the graph itself takes the mean over each picture and its mirror image, so
            that every second turn would give the same once more.
    """
    return turns_of(ensemble)[:: 2 if mirrored else 1]


def logit(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """ln(p / (1 - p)), finite also where a probability was rounded to 0 or 1: f32, any shape."""
    logits = np.clip(probability, np.float32(1 - _CERTAIN), np.float32(_CERTAIN))
    rest = np.negative(logits)
    np.log1p(rest, out=rest)
    np.log(logits, out=logits)
    logits -= rest
    return logits


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + exp(-x)): f32, any shape."""
    probability: NDArray[np.float32] = np.reciprocal(1 + np.exp(-logits))
    return probability
