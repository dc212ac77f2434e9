"""One call from a blurred picture to a deblurred one (DESIGN section 7).

decode → pad → mask graph → threshold and dilate → restoration (`m2a.runtime.restoration`) → add the
residual at active pixels. Both graphs run in as many spatial parts as keep within the memory
(`m2a.runtime.parts`); `verify` feeds each of them from elsewhere.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2a.machine.cores import usable_cores
from m2a.runtime.arguments import check_active, check_mask, check_memory, read_colour
from m2a.runtime.backends import Runner
from m2a.runtime.bundle import Bundle
from m2a.runtime.ensemble import check_ensemble, logit, mask_turns, sigmoid, turns_of
from m2a.runtime.graph_inputs import unit_planes, without_border
from m2a.runtime.parts import mask_parts
from m2a.runtime.pixels import Pixels
from m2a.runtime.restoration import (
    DENSE_COVERAGE,
    DenseRestoration,
    GatheredRestoration,
    Restoration,
    all_finite,
    check_finite,
)
from m2a.runtime.result import Result, coverage_of, no_motion, photo_of
from m2a.runtime.sites import dilate
from m2a.runtime.stopwatch import Stopwatch
from m2a.runtime.windows import PaddedPicture
from m2a.runtime.workers import Buffer, Workers

__all__ = ["Deblurrer", "Restored"]


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What the restoration stage returns.

    Attributes:
        residual: f32 [H, W, 3], zero at inactive pixels.
        motion: f32 [H'/4, W'/4, 4], NaN at inactive sites.
    """

    residual: NDArray[np.float32]
    motion: NDArray[np.float32]


class Deblurrer:
    """A bundle opened on a backend. Call it with a picture; on ONNX Runtime threads may share it.

    Attributes:
        bundle: the bundle it was opened from.
        backend: who computes the graphs: the backend asked for, or the fallback allowed.
        fallback_reason: why the backend that was asked for does not compute; None where it does.
        precision: of the bundle's graphs that it computes.
        precision_reason: why that one.
        threshold: a pixel is active where its probability is at least this.
        dilate: radius in pixels by which the mask is then dilated.
        max_memory: bytes that the graphs may take at a time, about.
        gathered: restores packed active pixels.
        dense: restores by computing every pixel; None where the bundle has no such graph in this
            precision.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        mask: Runner,
        restore: Runner,
        dense: Callable[[], Runner] | None = None,
        precision: str,
        threshold: float,
        dilate: int,
        ensemble: int = 1,
        max_memory: int,
        threads: int | None = None,
    ) -> None:
        check_active(threshold, dilate)
        check_ensemble(ensemble)
        check_memory(bundle, max_memory)
        self.bundle = bundle
        self.backend = mask.backend
        self.fallback_reason: str | None = None
        self.precision = precision
        self.precision_reason = "asked for"
        self.threshold = threshold
        self.dilate = dilate
        self._ensemble = ensemble
        self.max_memory = max_memory
        self._mask = mask
        self._workers = Workers(threads or usable_cores())
        self._image = Buffer(np.float32)
        turns = turns_of(ensemble)
        self.gathered = GatheredRestoration(
            restore, bundle.network, max_memory=max_memory, workers=self._workers, turns=turns
        )
        self.dense = dense and DenseRestoration(
            dense, bundle.network, max_memory=max_memory, workers=self._workers, turns=turns
        )

    @property
    def ensemble(self) -> int:
        """How many turns of a picture mask and residuals are the means of: 1, 2, 4 or 8."""
        return self._ensemble

    def __repr__(self) -> str:
        turns = "" if self.ensemble == 1 else f", mean of {self.ensemble} turns"
        return (
            f"<{type(self).__name__} of {self.bundle.path} on {self.backend}, {self.precision}, "
            f"threshold {self.threshold:g}, dilation {self.dilate}{turns}>"
        )

    def __call__(
        self, image: Pixels | str | Path, *, mask: NDArray[np.bool_] | None = None
    ) -> Result:
        """Deblurs a picture.

        Args:
            image: an array [H, W] or [H, W, C] — grey, grey + alpha, RGB or RGB + alpha for
                C = 1, 2, 3, 4 — of uint8, uint16 or floating point in [0, 1]; or the path of a
                photograph.
            mask: bool [H, W], the pixels to restore, taken as it is; predicted if not given.

        Returns:
            The `Result`. Pixels outside its mask equal the input exactly; alpha is untouched.

        Raises:
            ImageError: the file cannot be read, or the array is not a picture.
            UsageError: the mask does not fit the picture.
            BackendError: the backend failed.
        """
        watch = Stopwatch()
        colour, photo = read_colour(image, watch)
        size = (colour.height, colour.width)
        if mask is not None:
            check_mask(mask, size)
        picture = PaddedPicture(colour)
        probability = None
        if mask is None:
            probability = self.predict(picture, watch)
            with watch.stage("threshold"):
                mask = self.active(probability)
        output = np.array(colour.source, order="C")
        motion = no_motion(*picture.size)
        for part in self.restoration_for(mask).parts(picture, mask, watch):
            with watch.stage("scatter"):
                colour.restore_into(output, part.pixels, part.residual, self._workers)
                motion[part.cells.slices] = part.motion
        return Result(
            image=output,
            mask=mask.copy(),
            probability=probability,
            coverage=coverage_of(mask),
            motion=motion,
            seconds=watch.seconds,
            backend=self.backend,
            photo=None if photo is None else photo_of(output, photo),
        )

    def with_mask_settings(
        self, *, threshold: float | None = None, dilate: int | None = None
    ) -> Deblurrer:
        """The same opened bundle with another mask; both share the graphs.

        Args:
            threshold: a pixel is active where its probability is at least this; None keeps it.
            dilate: radius in pixels by which the mask is then dilated; None keeps it.

        Raises:
            UsageError: one is out of range.
        """
        other = copy.copy(self)
        other.threshold = self.threshold if threshold is None else threshold
        other.dilate = self.dilate if dilate is None else dilate
        check_active(other.threshold, other.dilate)
        return other

    def predict(
        self, picture: PaddedPicture, watch: Stopwatch | None = None
    ) -> NDArray[np.float32]:
        """Runs the mask graph, part by part, in all turns of the ensemble.

        Args:
            picture: the padded picture.
            watch: times the stages `pad` and `mask`.

        Returns:
            f32 [H, W], the probability of visible motion blur; of several turns that of the mean
            logit.

        Raises:
            BackendError: the backend failed, or returned values that are not finite.
        """
        watch = watch or Stopwatch()
        height, width = picture.size
        probability = np.empty((height, width), np.float32)
        network = self.bundle.network
        turns = mask_turns(self.ensemble, mirrored=network.mask_mirrored)
        for box, outer in mask_parts(network, picture.box, memory=self.max_memory):
            with watch.stage("pad"):
                samples = without_border(picture.surroundings(outer))
            logits = None
            for turn in turns:
                with watch.stage("pad"):
                    image = unit_planes(
                        turn.apply(samples),
                        picture.scale,
                        workers=self._workers,
                        buffer=self._image,
                    )
                with watch.stage("mask"):
                    found = turn.undo(self._mask.run({"image": image})["mask"][0, 0])
                    # The box may reach into the padding; the picture ends before.
                    inner = found[box.inside(outer).slices]
                    inner = inner[: height - box.top, : width - box.left]
                    # A NaN is below every threshold: unnoticed, the picture would count as sharp.
                    check_finite(all_finite(inner), self.backend)
                    if len(turns) > 1:
                        logits = (
                            logit(inner)
                            if logits is None
                            else np.add(logits, logit(inner), out=logits)
                        )
            with watch.stage("mask"):
                if logits is not None:
                    inner = sigmoid(logits / np.float32(len(turns)))
                probability[box.slices] = inner
        return probability

    def active(self, probability: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Thresholds and dilates a probability [H, W] without padding into a mask."""
        return dilate(probability >= self.threshold, self.dilate)

    def restoration_for(self, mask: NDArray[np.bool_]) -> Restoration:
        """Who restores a mask: the dense restorer where packing the pixels no longer pays.

        Args:
            mask: bool [H, W].
        """
        if self.dense is not None and coverage_of(mask) >= DENSE_COVERAGE:
            return self.dense
        return self.gathered

    def restore(
        self,
        picture: PaddedPicture,
        mask: NDArray[np.bool_],
        *,
        restoration: Restoration | None = None,
    ) -> Restored:
        """Restores the active pixels, and keeps all of it.

        Args:
            picture: the padded picture.
            mask: bool [H, W] without padding.
            restoration: `gathered` or `dense`; None for the one that a call would take.

        Returns:
            The residual and the motion.

        Raises:
            BackendError: the backend failed, or returned values that are not finite.
        """
        residual = np.zeros((*picture.size, 3), np.float32)
        motion = no_motion(*picture.size)
        restoration = restoration or self.restoration_for(mask)
        for part in restoration.parts(picture, mask, Stopwatch()):
            residual.reshape(-1, 3)[part.pixels] = part.residual
            motion[part.cells.slices] = part.motion
        return Restored(residual=residual, motion=motion)
