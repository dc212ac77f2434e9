"""Evaluation of a bundle on pictures whose sharp truth and blur mask are known.

The folder is what `m2a synth` writes: `blurred/`, `sharp/` and `mask/`, pictures of one name in
each. Everything runs through the deployed pipeline, with predicted masks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from m2a.errors import UsageError
from m2a.evaluation.metrics import overlap, psnr
from m2a.runtime.deblurrer import Deblurrer
from m2a.runtime.images import read_mask, read_photo

PERFECT = 100.0
"""dB: more than any picture of 8 bits that differs in one value reaches in practice."""

FOLDERS = ("blurred", "sharp", "mask")


@dataclass(frozen=True, kw_only=True)
class Score:
    """One picture.

    Attributes:
        name: of its file.
        psnr_before: dB, blurred against sharp, inside the true mask; None where nothing moved.
        psnr_after: dB, deblurred against sharp, there; None where nothing moved.
        iou: of the thresholded probability, before dilation, with the annotated mask.
        precision: likewise.
        recall: likewise.
        coverage: active pixels, after dilation, / all pixels.
    """

    name: str
    psnr_before: float | None
    psnr_after: float | None
    iou: float
    precision: float
    recall: float
    coverage: float

    @property
    def gain(self) -> float | None:
        """PSNR difference inside the true mask in dB; a perfect picture counts as 100 dB."""
        if self.psnr_before is None or self.psnr_after is None:
            return None
        return min(self.psnr_after, PERFECT) - min(self.psnr_before, PERFECT)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores, and their means.

    Attributes:
        scores: one per picture, by name.
    """

    scores: tuple[Score, ...]

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
            "iou": fmean(s.iou for s in blurred) if blurred else None,
            "precision": fmean(s.precision for s in blurred) if blurred else None,
            "recall": fmean(s.recall for s in blurred) if blurred else None,
            "coverage": fmean(s.coverage for s in self.scores),
            "coverage_unblurred": fmean(s.coverage for s in still) if still else None,
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
    """
    scores = []
    for blurred, sharp, mask in _triples(folder):
        score = _score(deblurrer, blurred, sharp, mask)
        progress(score)
        scores.append(score)
    return Evaluation(scores=tuple(scores))


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
    found = overlap(result.probability >= deblurrer.threshold, true)
    moved = bool(true.any())
    return Score(
        name=blurred.stem,
        psnr_before=psnr(picture, truth, true) if moved else None,
        psnr_after=psnr(result.image, truth, true) if moved else None,
        iou=found.iou,
        precision=found.precision,
        recall=found.recall,
        coverage=result.coverage,
    )


def _triples(folder: Path) -> Iterator[tuple[Path, Path, Path]]:
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
