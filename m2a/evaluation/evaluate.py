"""Evaluation of a bundle on pictures whose sharp truth and blur mask are known.

The folder is what `m2a synth` writes: `blurred/`, `sharp/` and `mask/`, pictures of one name in
each, and perhaps `visible/`, the part of the mask where the blur shows, and `motion/`, the true
trajectories. Everything runs through the deployed pipeline, with predicted masks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2a.errors import UsageError
from m2a.evaluation.metrics import (
    SSIM_WINDOW,
    Samples,
    angle_errors,
    finite_psnr,
    overlap,
    psnr,
    ssim_map,
)
from m2a.runtime.deblurrer import Deblurrer
from m2a.runtime.images import read_mask, read_photo
from m2a.runtime.sites import CELL

FOLDERS = ("blurred", "sharp", "mask")


@dataclass(frozen=True, kw_only=True)
class Score:
    """One picture.

    Attributes:
        name: of its file.
        psnr_before: dB, blurred against sharp, inside the true mask (weighted by it, in ReLoBlur's
            words); None where nothing moved.
        psnr_after: dB, deblurred against sharp, there; None where nothing moved.
        ssim_before: mean SSIM inside the true mask; None where nothing moved, or the picture is
            smaller than SSIM's window.
        ssim_after: likewise, deblurred against sharp.
        psnr_whole_before: dB over the whole picture; infinite where it is equal.
        psnr_whole_after: likewise.
        iou: of the thresholded probability, before dilation, with the annotated mask.
        precision: likewise.
        recall: likewise.
        visible_iou: with the visible part of the mask; None where the folder does not tell it.
        coverage: active pixels, after dilation, / all pixels.
        angle_error: median over the 4×4 cells that were restored and truly moved, degrees modulo
            180; None where the folder does not tell the motion, or there is no such cell.
    """

    name: str
    psnr_before: float | None
    psnr_after: float | None
    ssim_before: float | None
    ssim_after: float | None
    psnr_whole_before: float
    psnr_whole_after: float
    iou: float
    precision: float
    recall: float
    visible_iou: float | None
    coverage: float
    angle_error: float | None

    @property
    def gain(self) -> float | None:
        """PSNR difference inside the true mask in dB; a perfect picture counts as 100 dB."""
        if self.psnr_before is None or self.psnr_after is None:
            return None
        return finite_psnr(self.psnr_after) - finite_psnr(self.psnr_before)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores, and their means.

    Attributes:
        scores: one per picture, by name.
        flop_share: arithmetic over that of the same network run densely, the restorer on every
            pixel. A lower bound: it counts solid masks, whose coarser levels have a quarter of the
            sites each; ragged ones have more. None where the bundle does not tell its cost.
    """

    scores: tuple[Score, ...]
    flop_share: float | None = None

    def summary(self) -> dict[str, Any]:
        """Means over the blurred pictures, and the false alarms on the others."""
        blurred = [score for score in self.scores if score.gain is not None]
        still = [score for score in self.scores if score.gain is None]
        gains = sorted(score.gain for score in blurred if score.gain is not None)
        return {
            "pictures": len(self.scores),
            "blurred": len(blurred),
            "gain_db": fmean(gains) if gains else None,
            "gain_db_worst": gains[0] if gains else None,
            "share_below_minus_0.1_db": fmean(g < -0.1 for g in gains) if gains else None,
            "psnr_before": _mean(s.psnr_before and finite_psnr(s.psnr_before) for s in blurred),
            "psnr_after": _mean(s.psnr_after and finite_psnr(s.psnr_after) for s in blurred),
            "ssim_before": _mean(s.ssim_before for s in blurred),
            "ssim_after": _mean(s.ssim_after for s in blurred),
            "iou": _mean(s.iou for s in blurred),
            "precision": _mean(s.precision for s in blurred),
            "recall": _mean(s.recall for s in blurred),
            "visible_iou": _mean(s.visible_iou for s in blurred),
            "angle_error": _mean(s.angle_error for s in blurred),
            "coverage": _mean(s.coverage for s in self.scores),
            "coverage_unblurred": _mean(s.coverage for s in still),
            "flop_share": self.flop_share,
        }

    def to_json(self) -> dict[str, Any]:
        """Returns summary and scores as JSON values; an infinite PSNR is null."""
        scores = [
            {name: None if value in (math.inf, None) else value for name, value in fields.items()}
            for fields in map(asdict, self.scores)
        ]
        return {"summary": self.summary(), "scores": scores}


def evaluate(
    deblurrer: Deblurrer, folder: Path, *, progress: Callable[[Score], None] = lambda _: None
) -> Evaluation:
    """Runs a deblurrer over a folder.

    Args:
        deblurrer: what is evaluated.
        folder: with `blurred/`, `sharp/` and `mask/`.
        progress: called after each picture.

    Returns:
        The `Evaluation`.

    Raises:
        UsageError: the folder is not of this form.
        ImageError: a picture cannot be read.
        MissingDependencyError: scikit-image, of the extra `eval`, is not installed.
    """
    scores = []
    for blurred, sharp, mask in known_triples(folder):
        score = _score(deblurrer, blurred, sharp, mask)
        progress(score)
        scores.append(score)
    coverage = fmean(score.coverage for score in scores)
    return Evaluation(
        scores=tuple(scores), flop_share=_flop_share(deblurrer.bundle.manifest, coverage)
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _flop_share(manifest: Mapping[str, Any], coverage: float) -> float | None:
    """(mask + coverage · restore) / (mask + restore), each per pixel."""
    model = manifest.get("model")
    cost = model.get("flop_per_pixel") if isinstance(model, Mapping) else None
    mask, restore = (
        cost.get(part) if isinstance(cost, Mapping) else None for part in ("mask", "restore")
    )
    if not isinstance(mask, (int, float)) or not isinstance(restore, (int, float)):
        return None
    return (mask + coverage * restore) / (mask + restore)


def _score(deblurrer: Deblurrer, blurred: Path, sharp: Path, mask: Path) -> Score:
    picture = read_photo(blurred).pixels
    truth = read_photo(sharp).pixels
    if truth.shape != picture.shape or truth.dtype != picture.dtype:
        raise UsageError(
            f"{sharp} is {truth.dtype}{list(truth.shape)}, expected {picture.dtype}"
            f"{list(picture.shape)} as {blurred} is"
        )
    true = read_mask(mask, shape=picture.shape[:2])
    result = deblurrer(picture)
    if result.probability is None:
        raise TypeError("a deblurrer that was given no mask returned no probability")
    predicted = result.probability >= deblurrer.threshold
    found = overlap(predicted, true)
    everywhere = np.ones_like(true)
    moved = bool(true.any())
    visible = mask.parent.parent / "visible" / mask.name
    motion = mask.parent.parent / "motion" / f"{blurred.stem}.npy"
    return Score(
        name=blurred.stem,
        psnr_before=psnr(picture, truth, true) if moved else None,
        psnr_after=psnr(result.image, truth, true) if moved else None,
        ssim_before=_ssim_inside(picture, truth, true),
        ssim_after=_ssim_inside(result.image, truth, true),
        psnr_whole_before=psnr(picture, truth, everywhere),
        psnr_whole_after=psnr(result.image, truth, everywhere),
        iou=found.iou,
        precision=found.precision,
        recall=found.recall,
        visible_iou=(
            overlap(predicted, read_mask(visible, shape=picture.shape[:2])).iou
            if visible.exists()
            else None
        ),
        coverage=result.coverage,
        angle_error=(_angle_error(result.motion, motion, true.shape) if motion.exists() else None),
    )


def _ssim_inside(picture: Samples, truth: Samples, mask: NDArray[np.bool_]) -> float | None:
    if not mask.any() or min(picture.shape[:2]) < SSIM_WINDOW:
        return None
    return float(ssim_map(picture, truth)[mask].mean())


def _angle_error(motion: NDArray[np.float32], path: Path, size: tuple[int, int]) -> float | None:
    try:
        true = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not an array of trajectories: {error}") from error
    cells = (-(-size[0] // CELL), -(-size[1] // CELL))
    if np.shape(true) != (*cells, 4):
        raise UsageError(
            f"{path} is {list(np.shape(true))}, expected 4 coefficients per {CELL}×{CELL} "
            f"pixels: {[*cells, 4]}"
        )
    errors = angle_errors(motion[: cells[0], : cells[1]], true)
    return float(np.median(errors)) if errors.size else None


def known_triples(folder: Path) -> Iterator[tuple[Path, Path, Path]]:
    """The blurred, the sharp and the mask's picture of each name in such a folder.

    Raises:
        UsageError: the folder is not of this form.
    """
    missing = [name for name in FOLDERS if not (folder / name).is_dir()]
    if missing:
        raise UsageError(
            f"{folder} has no folder {', '.join(missing)}; expected {', '.join(FOLDERS)} with "
            "pictures of the same names: `m2a synth PHOTOS -o DIR` writes them"
        )
    pictures = sorted(
        path
        for path in (folder / "blurred").iterdir()
        if path.is_file() and not path.name.startswith(".")
    )
    if not pictures:
        raise UsageError(f"{folder / 'blurred'} holds no pictures")
    for blurred in pictures:
        partners = [
            [path for path in (folder / name).iterdir() if path.stem == blurred.stem]
            for name in FOLDERS[1:]
        ]
        if any(len(found) != 1 for found in partners):
            raise UsageError(
                f"{blurred} needs exactly one picture of its name in each of "
                f"{', '.join(FOLDERS[1:])}"
            )
        yield blurred, partners[0][0], partners[1][0]
