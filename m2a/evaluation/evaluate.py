"""Evaluation on pictures whose sharp truth and blur mask are known, with predicted masks.

Whatever deblurs is measured alike: a bundle on any backend, through the deployed pipeline, or a
checkpoint in its masked dense form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from m2a.errors import ImageError, M2AError, UsageError
from m2a.evaluation.layouts import FOLDERS, known_triples
from m2a.evaluation.metrics import (
    SSIM_WINDOW,
    Samples,
    angle_errors,
    overlap,
    psnr,
    ssim_map,
)
from m2a.evaluation.pairs import Pair, read_true_mask
from m2a.evaluation.score import Arithmetic, Evaluation, Score
from m2a.runtime.images import read_photo
from m2a.runtime.pixels import Pixels
from m2a.runtime.result import Result
from m2a.runtime.sites import CELL

__all__ = ["FOLDERS", "Deblurs", "Known", "evaluate", "found_mask", "known_triples", "read_known"]


class Deblurs(Protocol):
    """What can be measured: a `Deblurrer`, and whatever is called like one."""

    @property
    def threshold(self) -> float:
        """A pixel is active where its probability is at least this."""
        ...

    def __call__(self, image: Pixels, /) -> Result:
        """Deblurs uint8 or uint16 [H, W, C] under the predicted mask."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """The pictures of a `Pair`.

    Attributes:
        picture: uint8 or uint16 [H, W, C], blurred.
        truth: of the same dtype and shape.
        mask: bool [H, W], true where `picture` is blurred.
    """

    picture: Samples
    truth: Samples
    mask: NDArray[np.bool_]


def evaluate(
    deblurrer: Deblurs,
    pairs: Iterable[Pair],
    *,
    arithmetic: Arithmetic | None = None,
    progress: Callable[[Score], None] = lambda _: None,
    failed: Callable[[Pair, M2AError], None] | None = None,
) -> Evaluation:
    """Measures a deblurrer.

    Args:
        deblurrer: what is measured.
        pairs: the pictures, as `find_pairs` finds them.
        arithmetic: what the network computes, to state it against dense; None where it is unknown.
        progress: called after each picture.
        failed: called with each pair that cannot be read, or whose pictures do not fit each other,
            and why; the others are measured. Where it is None, the first one raises.

    Returns:
        The `Evaluation`, of those that were measured.

    Raises:
        UsageError: pictures of a pair do not fit each other.
        ImageError: a picture cannot be read.
        MissingDependencyError: scikit-image, of the extra `eval`, is not installed.
    """
    scores = []
    for pair in pairs:
        try:
            score = _score(deblurrer, pair, arithmetic)
        except (ImageError, UsageError) as error:
            if failed is None:
                raise
            failed(pair, error)
            continue
        progress(score)
        scores.append(score)
    return Evaluation(scores=tuple(scores))


def read_known(pair: Pair) -> Known:
    """Reads the pictures of a pair.

    Raises:
        UsageError: they do not fit each other.
        ImageError: one cannot be read.
    """
    picture = read_photo(pair.blurred).pixels
    size = (picture.shape[0], picture.shape[1])
    if pair.is_sharp:
        return Known(picture=picture, truth=picture, mask=np.zeros(size, np.bool_))
    truth = read_photo(pair.sharp).pixels
    if truth.shape != picture.shape or truth.dtype != picture.dtype:
        raise UsageError(
            f"{pair.sharp} is {truth.dtype}{list(truth.shape)}, expected {picture.dtype}"
            f"{list(picture.shape)} as {pair.blurred} is"
        )
    mask = np.ones(size, np.bool_) if pair.mask is None else read_true_mask(pair.mask, shape=size)
    return Known(picture=picture, truth=truth, mask=mask)


def found_mask(deblurrer: Deblurs, result: Result) -> NDArray[np.bool_]:
    """The predicted mask of a result before dilation, bool [H, W].

    Raises:
        TypeError: the result is of a mask that was given.
    """
    if result.probability is None:
        raise TypeError("a deblurrer that was given no mask returned no probability")
    predicted: NDArray[np.bool_] = result.probability >= deblurrer.threshold
    return predicted


def _score(deblurrer: Deblurs, pair: Pair, arithmetic: Arithmetic | None) -> Score:
    known = read_known(pair)
    picture, truth, true = known.picture, known.truth, known.mask
    result = deblurrer(picture)
    predicted = found_mask(deblurrer, result)
    found = overlap(predicted, true)
    everywhere = np.ones_like(true)
    moved = bool(true.any())
    # Photographs can be large, SSIM takes many times their memory, and of sharp ones nobody asks.
    before, after = (
        _Ssim() if pair.is_sharp else _ssim(one, truth, true) for one in (picture, result.image)
    )
    return Score(
        name=pair.name,
        psnr_before=psnr(picture, truth, true) if moved else None,
        psnr_after=psnr(result.image, truth, true) if moved else None,
        ssim_before=before.masked,
        ssim_after=after.masked,
        psnr_whole_before=psnr(picture, truth, everywhere),
        psnr_whole_after=psnr(result.image, truth, everywhere),
        ssim_whole_before=before.whole,
        ssim_whole_after=after.whole,
        iou=found.iou,
        precision=found.precision,
        recall=found.recall,
        visible_iou=_visible_iou(pair, predicted),
        coverage=result.coverage,
        flop_share=None if arithmetic is None else arithmetic.share_at(result.coverage),
        angle_error=None if pair.motion is None else _angle_error(result.motion, pair, true.shape),
    )


@dataclass(frozen=True, kw_only=True)
class _Ssim:
    masked: float | None = None
    whole: float | None = None


def _ssim(picture: Samples, truth: Samples, mask: NDArray[np.bool_]) -> _Ssim:
    if min(picture.shape[:2]) < SSIM_WINDOW:
        return _Ssim()
    similarity = ssim_map(picture, truth)
    # As everyone averages it: where the window lies inside the picture.
    inside = slice(SSIM_WINDOW // 2, -(SSIM_WINDOW // 2))
    return _Ssim(
        masked=float(similarity[mask].mean()) if mask.any() else None,
        whole=float(similarity[inside, inside].mean()),
    )


def _visible_iou(pair: Pair, predicted: NDArray[np.bool_]) -> float | None:
    if pair.visible is None:
        return None
    height, width = predicted.shape
    return overlap(predicted, read_true_mask(pair.visible, shape=(height, width))).iou


def _angle_error(motion: NDArray[np.float32], pair: Pair, size: tuple[int, ...]) -> float | None:
    try:
        true = np.load(str(pair.motion), allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"{pair.motion} is not an array of trajectories: {error}") from error
    cells = (-(-size[0] // CELL), -(-size[1] // CELL))
    if np.shape(true) != (*cells, 4):
        raise UsageError(
            f"{pair.motion} is {list(np.shape(true))}, expected 4 coefficients per {CELL}×{CELL} "
            f"pixels: {[*cells, 4]}"
        )
    errors = angle_errors(motion[: cells[0], : cells[1]], true)
    return float(np.median(errors)) if errors.size else None
