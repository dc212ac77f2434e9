"""A picture whose truth is known: its files, and how its blur mask is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2a.errors import UsageError
from m2a.runtime.images import read_mask, read_photo


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The files of one picture and its truth.

    Attributes:
        name: unique among those of its folder, such as "00012", "s01/00/03" or
            "GOPR0372_07_00/000047".
        blurred: the blurred picture.
        sharp: the same scene without blur; the same file where the picture is sharp itself.
        mask: where it is blurred; None: all over, or nowhere where it is sharp itself.
        visible: the part of the mask where the blur shows; None where that is not told.
        motion: the true trajectories, a NumPy array; None where they are not told.
    """

    name: str
    blurred: Path
    sharp: Path
    mask: Path | None = None
    visible: Path | None = None
    motion: Path | None = None

    @property
    def is_sharp(self) -> bool:
        """Whether the picture is its own truth, so that all that is found in it is false."""
        return self.blurred == self.sharp

    @property
    def files(self) -> tuple[Path, ...]:
        """The pictures that a data set must have: blurred, sharp and, if there is one, the mask."""
        return tuple(path for path in (self.blurred, self.sharp, self.mask) if path is not None)


def read_true_mask(path: Path, *, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Reads an annotated blur mask: true from 128 of 255, as every mask (`read_mask`).

    Args:
        path: the file.
        shape: (H, W) of its picture.

    Returns:
        bool [H, W].

    Raises:
        UsageError: it is of another size, or has values, but all below the threshold, such as one
            of 0 and 1: it would count as a picture without blur.
        ImageError: it cannot be read.
    """
    try:
        mask = read_mask(path, shape=shape)
    except UsageError as error:
        raise UsageError(f"{error}; use masks and pictures of one release.") from error
    if not mask.any():
        values = read_photo(path).pixels
        if values.any():
            raise UsageError(
                f"{path}: found no value above {values.max()}, expected 0 and "
                f"{np.iinfo(values.dtype).max}; rescale the masks to the full range."
            )
    return mask
