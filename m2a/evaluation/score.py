"""What is measured of one picture, and the means over many."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

from m2a.evaluation.metrics import finite_psnr
from m2a.runtime.deblurrer import Deblurrer
from m2a.runtime.ensemble import mask_turns

WORSE = -0.1
"""dB: a gain below this is a picture made worse."""


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """What a network computes.

    Attributes:
        mask: FLOP per pixel.
        restore: FLOP per *active* pixel, where the mask is solid.
        mask_passes: how many times a picture goes through the mask graph, in the turns of an
            ensemble.
        restore_passes: likewise through the restoration.
    """

    mask: float
    restore: float
    mask_passes: int = 1
    restore_passes: int = 1

    @classmethod
    def of_manifest(cls, manifest: Mapping[str, Any]) -> Arithmetic | None:
        """Reads it from a bundle's manifest; None where that does not tell it."""
        model = manifest.get("model")
        cost = model.get("flop_per_pixel") if isinstance(model, Mapping) else None
        parts = [cost.get(p) if isinstance(cost, Mapping) else None for p in ("mask", "restore")]
        mask, restore = parts
        if not isinstance(mask, (int, float)) or not isinstance(restore, (int, float)):
            return None
        return cls(mask=mask, restore=restore)

    def share_at(self, coverage: float) -> float:
        """Arithmetic over that of the same network, once, with the restorer on every pixel.

        A lower bound: it counts solid masks, whose coarser levels have a quarter of the sites each;
        ragged ones have more.
        """
        mask = self.mask_passes * self.mask
        restore = self.restore_passes * coverage * self.restore
        return (mask + restore) / (self.mask + self.restore)


def arithmetic_of(deblurrer: Deblurrer) -> Arithmetic | None:
    """What a bundle computes of a picture, in all turns; None where its manifest does not tell."""
    once = Arithmetic.of_manifest(deblurrer.bundle.manifest)
    if once is None:
        return None
    mirrored = deblurrer.bundle.network.mask_mirrored
    mask = mask_turns(deblurrer.ensemble, mirrored=mirrored)
    return replace(once, mask_passes=len(mask), restore_passes=deblurrer.ensemble)


@dataclass(frozen=True, kw_only=True)
class Score:
    """One picture.

    Attributes:
        name: of its `Pair`.
        psnr_before: dB, blurred against sharp, weighted by the true mask as ReLoBlur does: over the
            pixels in it; None where nothing is blurred.
        psnr_after: dB, deblurred against sharp, likewise.
        ssim_before: SSIM weighted likewise; None where nothing is blurred, or the picture is
            smaller than SSIM's window.
        ssim_after: likewise, deblurred against sharp.
        psnr_whole_before: dB over the whole picture; infinite where it is equal.
        psnr_whole_after: likewise.
        ssim_whole_before: over the whole picture; None where it is smaller than SSIM's window, or
            its pair `is_sharp`.
        ssim_whole_after: likewise.
        iou: of the thresholded probability, before dilation, with the annotated mask.
        precision: likewise.
        recall: likewise.
        visible_iou: with the visible part of the mask; None where the folder does not tell it.
        coverage: active pixels, after dilation, / all pixels.
        flop_share: `Arithmetic.share_at` that coverage; None where the arithmetic is not known.
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
    ssim_whole_before: float | None
    ssim_whole_after: float | None
    iou: float
    precision: float
    recall: float
    visible_iou: float | None
    coverage: float
    flop_share: float | None
    angle_error: float | None

    @property
    def gain(self) -> float | None:
        """PSNR difference inside the true mask in dB; a perfect picture counts as 100 dB."""
        if self.psnr_before is None or self.psnr_after is None:
            return None
        return finite_psnr(self.psnr_after) - finite_psnr(self.psnr_before)

    def to_json(self) -> dict[str, Any]:
        """Returns the attributes and the gain as JSON values; an infinite PSNR is null."""
        fields = {"name": self.name, "gain_db": self.gain, **asdict(self)}
        return {name: None if value == math.inf else value for name, value in fields.items()}


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores, and their means.

    Attributes:
        scores: one per picture, by name.
    """

    scores: tuple[Score, ...]

    def by_gain(self) -> list[Score]:
        """The blurred pictures, the least gain first, then the others, the most coverage first."""
        return sorted(
            self.scores,
            key=lambda s: (s.gain is None, -s.coverage if s.gain is None else s.gain, s.name),
        )

    def summary(self) -> dict[str, Any]:
        """Means over the blurred pictures, and the false alarms on the others."""
        blurred = [score for score in self.by_gain() if score.gain is not None]
        still = [score for score in self.scores if score.gain is None]
        gains = [score.gain for score in blurred if score.gain is not None]
        return {
            "pictures": len(self.scores),
            "blurred": len(blurred),
            "gain_db": fmean(gains) if gains else None,
            "gain_db_worst": gains[0] if gains else None,
            "worst": blurred[0].name if blurred else None,
            "share_below_minus_0.1_db": fmean(g < WORSE for g in gains) if gains else None,
            "psnr_before": _mean_psnr(s.psnr_before for s in blurred),
            "psnr_after": _mean_psnr(s.psnr_after for s in blurred),
            "ssim_before": _mean(s.ssim_before for s in blurred),
            "ssim_after": _mean(s.ssim_after for s in blurred),
            "psnr_whole_before": _mean_psnr(s.psnr_whole_before for s in blurred),
            "psnr_whole_after": _mean_psnr(s.psnr_whole_after for s in blurred),
            "ssim_whole_before": _mean(s.ssim_whole_before for s in blurred),
            "ssim_whole_after": _mean(s.ssim_whole_after for s in blurred),
            "iou": _mean(s.iou for s in blurred),
            "precision": _mean(s.precision for s in blurred),
            "recall": _mean(s.recall for s in blurred),
            "visible_iou": _mean(s.visible_iou for s in blurred),
            "angle_error": _mean(s.angle_error for s in blurred),
            "coverage": _mean(s.coverage for s in self.scores),
            "coverage_unblurred": _mean(s.coverage for s in still),
            "flop_share": _mean(s.flop_share for s in self.scores),
        }

    def to_json(self) -> dict[str, Any]:
        """Returns summary and scores as JSON values; an infinite PSNR is null."""
        return {"summary": self.summary(), "scores": [score.to_json() for score in self.scores]}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _mean_psnr(values: Iterable[float | None]) -> float | None:
    return _mean(None if value is None else finite_psnr(value) for value in values)
