"""Pairs of a real data set in memory, and crops of them to train on.

Where the files lie: `m2a.evaluation.datasets`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2a.errors import TrainingError, UsageError
from m2a.evaluation.pairs import Pair, read_true_mask
from m2a.runtime.images import read_photo

MASKED_SHARE = 0.5
"""The share of crops aimed at a masked pixel: `force_blur_region_p` in LBAG's `LBAG.yaml`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PairPixels:
    """A pair in memory, whole or a crop of it.

    Attributes:
        name: of the `Pair`.
        blurred: uint8 [H, W, 3], RGB as encoded in the file.
        sharp: uint8 [H, W, 3], likewise.
        mask: bool [H, W], true where `blurred` is blurred.

    Raises:
        ValueError: shapes or dtypes are not as stated.
    """

    name: str
    blurred: NDArray[np.uint8]
    sharp: NDArray[np.uint8]
    mask: NDArray[np.bool_]

    def __post_init__(self) -> None:
        size = self.mask.shape
        for picture in (self.blurred, self.sharp):
            if picture.dtype != np.uint8 or picture.shape != (*size, 3):
                raise ValueError(
                    f"pair {self.name}: found {picture.dtype} {picture.shape}, "
                    f"expected uint8 {(*size, 3)} as the mask has"
                )
        if self.mask.dtype != np.bool_ or self.mask.size == 0:
            raise ValueError(
                f"pair {self.name}: found a mask {self.mask.dtype} {size}, "
                "expected a non-empty bool [H, W]"
            )


def read_pair(pair: Pair) -> PairPixels:
    """Reads the pictures of a pair.

    A mask is true from 128 of 255, as everywhere in m2a (`read_mask`): half of the range is where
    the edge of a mask that was resized with grey levels lies. LBAG takes every value above 0, which
    is the same for masks of 0 and 255 and wider for others. A mask without any blur is valid; one
    that is neither black nor anywhere above the threshold, such as one of 0 and 1, is refused.

    Args:
        pair: of `find_reloblur` or `find_gopro`.

    Returns:
        The whole pictures; the mask is all true where the pair has none.

    Raises:
        TrainingError: a picture is not RGB of 8 bits; the two pictures or the mask differ in
            size; the mask's values are all below the threshold, but not 0.
        ImageError: a file is missing, damaged or no picture.
    """
    blurred, sharp = _read_rgb(pair.blurred), _read_rgb(pair.sharp)
    if sharp.shape != blurred.shape:
        raise TrainingError(
            f"{pair.sharp}: found {_size(sharp)} pixels, expected {_size(blurred)} as "
            f"{pair.blurred} has; download both files again."
        )
    if pair.mask is None:
        mask = np.ones(blurred.shape[:2], np.bool_)
    else:
        try:
            mask = read_true_mask(pair.mask, shape=(blurred.shape[0], blurred.shape[1]))
        except UsageError as error:
            raise TrainingError(str(error)) from error
    return PairPixels(name=pair.name, blurred=blurred, sharp=sharp, mask=mask)


def draw_pair_crop(
    rng: np.random.Generator, pair: PairPixels, size: int, *, masked_share: float = MASKED_SHARE
) -> PairPixels:
    """Draws a square crop, which is blurred more often than chance would have it.

    Blur covers a small part of ReLoBlur, so that crops drawn evenly would mostly be sharp. With the
    probability `masked_share` a crop is therefore centred on a masked pixel, all being equally
    likely, and moved into the picture where it sticks out, which keeps that pixel in it. All
    others are drawn evenly, as are all crops of a picture that is masked nowhere or everywhere.

    Args:
        rng: source of randomness; the crop depends on nothing else.
        pair: what to cut from; not changed.
        size: S, rows and columns of the crop.
        masked_share: 0 to 1; the least probability of a crop with a masked pixel, if there is one.

    Returns:
        Copies of blurred [S, S, 3], sharp [S, S, 3] and mask [S, S].

    Raises:
        TrainingError: the picture is smaller than the crop.
        ValueError: `size` < 1, or `masked_share` is not within 0 to 1.
    """
    if size < 1 or not 0 <= masked_share <= 1:
        raise ValueError(
            f"found size {size} and masked_share {masked_share}, expected 1 or more and 0 to 1"
        )
    height, width = pair.mask.shape
    if min(height, width) < size:
        raise TrainingError(
            f"pair {pair.name}: found {_size(pair.blurred)} pixels, expected at least "
            f"{size}x{size}, the size of a crop; choose smaller crops or larger pictures."
        )
    masked: NDArray[np.intp] = np.empty(0, np.intp)
    # Aiming within a full mask would only gather crops at the borders, where they are moved in.
    if rng.random() < masked_share and not pair.mask.all():
        masked = np.flatnonzero(pair.mask)
    if masked.size:
        y, x = divmod(int(rng.choice(masked)), width)
        top = min(max(y - size // 2, 0), height - size)
        left = min(max(x - size // 2, 0), width - size)
    else:
        top = int(rng.integers(height - size + 1))
        left = int(rng.integers(width - size + 1))
    window = np.s_[top : top + size, left : left + size]
    # Copies: a view would keep the whole picture in memory.
    return PairPixels(
        name=pair.name,
        blurred=pair.blurred[window].copy(),
        sharp=pair.sharp[window].copy(),
        mask=pair.mask[window].copy(),
    )


def _read_rgb(path: Path) -> NDArray[np.uint8]:
    pixels = read_photo(path).pixels
    if pixels.dtype != np.uint8 or pixels.shape[2] != 3:
        raise TrainingError(
            f"{path}: found {pixels.shape[2]} channels of {pixels.dtype}, expected 3 of uint8; "
            "download the file again."
        )
    return pixels.astype(np.uint8, copy=False)


def _size(picture: NDArray[np.uint8]) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]}"
