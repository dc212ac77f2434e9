"""The quality gate: does a variant give the same picture as FP32, on photos that did not calibrate?

Both predict their own masks. Everything is pooled over the pixels of all photos, so that one with
little blur counts little; truth, where it is known, is a mean over the photos, as `m2a eval` does.
"""

from __future__ import annotations

import functools
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2a.calibration.photos import NEEDED, Photo
from m2a.calibration.variants import MIN_IOU, MIN_MARGIN, rounded
from m2a.errors import BackendError, ImageError, UsageError, number_of
from m2a.evaluation.metrics import finite_psnr, overlap
from m2a.runtime.deblurrer import Deblurrer
from m2a.runtime.graph_inputs import to_unit
from m2a.runtime.images import read_mask, read_photo
from m2a.runtime.pixels import Pixels, check_pixels
from m2a.runtime.windows import PaddedPicture

MIN_PSNR = 42.0
"""Least PSNR in dB against FP32, over the pixels that either restores."""

MAX_LOSS = 0.1
"""dB of PSNR against the truth, inside the true mask, that a variant may cost."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What was measured.

    Attributes:
        photos: that judged.
        pixels: that either restores, over all photos.
        iou: of the thresholded masks.
        psnr: dB, variant against FP32 over `pixels`; infinite where equal.
        margin: dB by which the mean squared error lies below that of FP32's residual there.
        loss: dB of PSNR inside the true mask against the truth, FP32's less the variant's; None
            where no truth is known.
        truths: photos whose truth counted.
    """

    photos: int
    pixels: int
    iou: float
    psnr: float
    margin: float
    loss: float | None
    truths: int = 0

    @property
    def used(self) -> float:
        """The largest share of a limit that is used up: 1 is just within all of them.

        Errors count by their power, so that the shares of independent errors add up. Infinite
        where a figure is not a number.
        """
        shares = [
            (1 - self.iou) / (1 - MIN_IOU),
            10 ** ((MIN_PSNR - self.psnr) / 10),
            10 ** ((MIN_MARGIN - self.margin) / 10),
        ]
        if self.loss is not None:
            shares.append(max(0.0, self.loss) / MAX_LOSS)
        return math.inf if any(map(math.isnan, shares)) else max(shares)

    @property
    def passed(self) -> bool:
        """Whether every limit is kept."""
        return self.used <= 1

    def __str__(self) -> str:
        loss = "" if self.loss is None else f", {self.loss:+.3f} dB lost against the truth"
        photos = number_of(self.photos, "photo")
        return (
            f"on {photos} the masks' IoU is {self.iou:.4f}, the PSNR against FP32 "
            f"{self.psnr:.1f} dB, the error {self.margin:.1f} dB below what FP32 adds{loss}"
        )

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values; what is infinite is null."""
        return {
            "photos": self.photos,
            "photos_with_truth": self.truths,
            "pixels": self.pixels,
            "mask_iou": rounded(self.iou, 5),
            "psnr_db": rounded(self.psnr, 2),
            "margin_db": rounded(self.margin, 2),
            "truth_loss_db": rounded(self.loss, 4),
        }


LIMITS = (
    f"expected an IoU of at least {MIN_IOU}, a PSNR of at least {MIN_PSNR:.0f} dB, an error at "
    f"least {MIN_MARGIN:.0f} dB below what FP32 adds, and at most {MAX_LOSS} dB lost against a "
    "known truth"
)


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """What a deblurrer makes of a photo.

    Attributes:
        found: bool [H, W], the thresholded probability.
        active: bool [H, W], the same dilated.
        residual: f32 [N, 3] of the active pixels, row-major.
    """

    found: NDArray[np.bool_]
    active: NDArray[np.bool_]
    residual: NDArray[np.float32]

    @functools.cached_property
    def spread(self) -> NDArray[np.float32]:
        """The residual f32 [H, W, 3], zero where nothing is restored; made once."""
        whole = np.zeros((*self.active.shape, 3), np.float32)
        whole[self.active] = self.residual
        return whole


class Judge:
    """FP32's results on photos, kept on disk, and the comparison of variants with them.

    Use it as a context: leaving it drops the files. `role` says for people what the photos do.
    """

    def __init__(
        self,
        single: Deblurrer,
        photos: Sequence[Photo],
        *,
        role: str = "judge",
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._single, self._photos, self._progress = single, tuple(photos), progress
        self._role = role
        self._folder = tempfile.TemporaryDirectory(prefix="m2a-gate-")

    def __enter__(self) -> Judge:
        self._place = Path(self._folder.__enter__())
        try:
            self._restore()
        except BaseException:  # also Ctrl-C: nobody will leave a context that was not entered
            self._folder.cleanup()
            raise
        return self

    def _restore(self) -> None:
        restored = 0
        for number, photo in enumerate(self._photos):
            self._progress(f"FP32 on {photo.path.name} ({number + 1} of {len(self._photos)})")
            outcome = _deblurred(self._single, read_photo(photo.path).pixels)
            arrays = {name: getattr(outcome, name) for name in _Outcome.__annotations__}
            np.savez(self._place / f"{number}.npz", **arrays)
            restored += len(outcome.residual)
        if not restored:
            raise UsageError(
                f"FP32 finds no motion blur in any of the {len(self._photos)} photos that "
                f"{self._role}, so that no error would show. {NEEDED}"
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._folder.__exit__(kind, error, trace)

    def judge(self, variant: Deblurrer, *, own_mask: bool = True) -> Gate:
        """Measures a variant.

        Args:
            variant: opened from the same bundle.
            own_mask: whether it predicts its masks; False gives it FP32's, where its mask graph is
                FP32's.

        Raises:
            ImageError: a photo cannot be read any more, or its truth has another size.
            BackendError: the backend failed; values that are not finite are an infinite error.
        """
        pooled = _Pooled()
        for number, photo in enumerate(self._photos):
            with np.load(self._place / f"{number}.npz") as arrays:
                expected = _Outcome(**{name: arrays[name] for name in _Outcome.__annotations__})
            pixels = read_photo(photo.path).pixels
            try:
                found = _deblurred(variant, pixels, like=None if own_mask else expected)
            except BackendError as error:
                if "not finite" not in str(error):
                    raise
                return Gate(
                    photos=len(self._photos),
                    pixels=0,
                    iou=0.0,
                    psnr=-math.inf,
                    margin=-math.inf,
                    loss=None,
                )
            pooled.add(expected, found)
            if photo.sharp is not None and photo.mask is not None:
                pooled.add_truth(expected, found, pixels, photo.sharp, photo.mask)
        return pooled.gate()


class _Pooled:
    """Sums over photos."""

    def __init__(self) -> None:
        self._photos = self._pixels = 0
        self._both = self._either = 0
        self._error = self._power = 0.0
        self._losses: list[float] = []

    def add(self, expected: _Outcome, found: _Outcome) -> None:
        """Counts one photo."""
        masks = overlap(found.found, expected.found)
        self._both += masks.both
        self._either += masks.predicted + masks.true - masks.both
        union = expected.active | found.active
        truth, residual = expected.spread[union], found.spread[union]
        self._error += float(np.square(residual - truth, dtype=np.float64).sum())
        self._power += float(np.square(truth, dtype=np.float64).sum())
        self._pixels += int(union.sum())
        self._photos += 1

    def add_truth(
        self, expected: _Outcome, found: _Outcome, pixels: Pixels, sharp: Path, mask: Path
    ) -> None:
        """Counts what a photo whose truth is known loses."""
        inside = read_mask(mask, shape=pixels.shape[:2])
        truth = _unit(read_photo(sharp).pixels)
        if truth.shape != pixels.shape:
            raise ImageError(
                f"{sharp}: found an array of {list(truth.shape)}, expected {list(pixels.shape)}, "
                "as of the blurred photo whose truth it is"
            )
        if not inside.any() or pixels.ndim != 3:
            return
        before = _unit(pixels)
        psnrs = []
        for outcome in (expected, found):
            after = np.clip(before + outcome.spread, 0, 1)
            error = float(np.square(after[inside] - truth[inside], dtype=np.float64).mean())
            psnrs.append(finite_psnr(_decibels(1.0, error)))
        self._losses.append(psnrs[0] - psnrs[1])

    def gate(self) -> Gate:
        """The figures."""
        samples = max(1, 3 * self._pixels)
        return Gate(
            photos=self._photos,
            pixels=self._pixels,
            iou=self._both / self._either if self._either else 1.0,
            psnr=_decibels(1.0, self._error / samples),
            margin=_decibels(self._power, self._error),
            loss=fmean(self._losses) if self._losses else None,
            truths=len(self._losses),
        )


def _deblurred(deblurrer: Deblurrer, pixels: Pixels, *, like: _Outcome | None = None) -> _Outcome:
    """Runs mask and restoration; with the mask of `like` where it is given."""
    picture = PaddedPicture(check_pixels(pixels))
    if like is None:
        probability = deblurrer.predict(picture)
        found, active = probability >= deblurrer.threshold, deblurrer.active(probability)
    else:
        found, active = like.found, like.active
    residual = np.zeros((0, 3), np.float32)
    if active.any():
        restored = deblurrer.restore(picture, active, restoration=deblurrer.gathered)
        residual = restored.residual[active]
    return _Outcome(found=found, active=active, residual=residual)


def _unit(pixels: Pixels) -> NDArray[np.float32]:
    return to_unit(pixels, check_pixels(pixels).scale)


def _decibels(power: float, error: float) -> float:
    if error == 0:
        return math.inf
    return 10 * math.log10(power / error) if power > 0 else -math.inf
