"""Verification: does a bundle still compute what the trained network computed?

Every stage is fed the *reference's* input, never the previous stage's result: one pixel that
flips at the threshold would otherwise change the tables, and so condemn all that follows. Works
without torch: the reference travels with the bundle.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2a.errors import UsageError
from m2a.runtime.bundle import Bundle
from m2a.runtime.deblurrer import Deblurrer
from m2a.runtime.loading import open_bundle_on
from m2a.runtime.manifest import LIMIT_FP32, STAGES
from m2a.runtime.parts import MAX_DISPLACEMENT
from m2a.runtime.pixels import Colour, Pixels, check_pixels
from m2a.runtime.windows import PaddedPicture

LIMIT_RELATIVE = 0.25
"""Largest relative error of a variant on a given picture: 12 dB below what it is an error of."""

MOTION_BOUND = float(MAX_DISPLACEMENT)
"""|d| in pixels per axis: motion errors are stated as a share of it."""


_OF_RESIDUAL = "largest difference of what is added to a pixel (range 0 to 1)"
_OF_MOTION = f"largest difference of the motion, as a share of {MAX_DISPLACEMENT} pixels"
_LARGEST = {
    "mask": "largest difference of the probability (0 to 1)",
    "restore.residual": _OF_RESIDUAL,
    "restore.motion": _OF_MOTION,
    "dense.residual": _OF_RESIDUAL,
    "dense.motion": _OF_MOTION,
}
_RELATIVE = "error as a share of the reference's own variation (RMS)"
_LEVELS = (
    "largest difference of the finished picture from one call to its stages put together, of 255 "
    "levels"
)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The comparison of one stage.

    Attributes:
        name: `mask`, `restore.residual`, `restore.motion`, `dense.residual`, `dense.motion`, or
            `picture`: the one call, compared with its stages.
        error: the largest absolute difference; of motion as a share of its 48-pixel bound; of
            the picture in 8-bit levels. Of a variant on a given picture, where the largest error
            depends on the picture: the `relative_error` (of the mask's logits).
        limit: what it must not exceed.
        measure: what `error` and `limit` count, in words, with the unit.
    """

    name: str
    error: float
    limit: float
    measure: str

    @property
    def passed(self) -> bool:
        """Whether the error keeps its limit; an error that is not a number does not."""
        return self.error <= self.limit


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The outcome.

    Attributes:
        reference: what was compared with, in words.
        backend: what was verified.
        precision: of the graphs that were verified.
        coverage: of the reference's mask.
        stages: in the order of the pipeline.
    """

    reference: str
    backend: str
    precision: str
    coverage: float
    stages: tuple[Stage, ...]

    @property
    def failed(self) -> Stage | None:
        """The first stage beyond its limit, if any."""
        return next((stage for stage in self.stages if not stage.passed), None)


@dataclass(frozen=True, kw_only=True)
class _Expected:
    image: Pixels
    probability: NDArray[np.float32]
    mask: NDArray[np.bool_]
    residual: NDArray[np.float32]
    motion: NDArray[np.float32]


def verify(bundle: Bundle, deblurrer: Deblurrer, image: Pixels | None = None) -> Verification:
    """Compares every stage of a deblurrer with a reference.

    Args:
        bundle: the bundle.
        deblurrer: what is verified; opened from the bundle on any backend and precision.
        image: compare on this picture, with the bundle's FP32 graphs computed on the CPU node by
            node, unoptimised; a variant by relative errors. None compares on the reference image,
            with the torch masked dense network's results that `export` stored.

    Returns:
        The `Verification`.

    Raises:
        BundleError: the reference is missing or damaged.
        UsageError: the deblurrer has an ensemble; or, without a picture, the bundle has no limits
            for its precision.
        ImageError: the array is not a picture.
    """
    if deblurrer.ensemble != 1:
        raise UsageError(
            f"stages are compared in one turn of the picture, found an ensemble of "
            f"{deblurrer.ensemble}; open the bundle without one"
        )
    if image is None:
        expected, words = _stored(bundle), "torch masked dense network, stored at export"
    else:
        expected = _computed(bundle, deblurrer, image)
        words = "FP32 graphs on ort-cpu, unoptimised, on the given picture"
    colour = check_pixels(expected.image)
    picture = PaddedPicture(colour)
    relative = image is not None and deblurrer.precision != "fp32"
    limits = dict.fromkeys(STAGES, LIMIT_RELATIVE) if relative else _limits(bundle, deblurrer)
    probability = deblurrer.predict(picture)
    pairs: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {
        "mask": (probability, expected.probability)
    }
    if relative:
        pairs["mask"] = (bounded_logits(probability), bounded_logits(expected.probability))
    stages = []
    if expected.mask.any():
        restored = deblurrer.restore(picture, expected.mask, restoration=deblurrer.gathered)
        residual = restored.residual[expected.mask]
        active = np.isfinite(restored.motion)
        pairs["restore.residual"] = (residual, expected.residual)
        pairs["restore.motion"] = (
            restored.motion[active] / MOTION_BOUND,
            expected.motion[active] / MOTION_BOUND,
        )
        if deblurrer.dense is not None:
            densely = deblurrer.restore(picture, expected.mask, restoration=deblurrer.dense)
            pairs["dense.residual"] = (densely.residual[expected.mask], expected.residual)
            pairs["dense.motion"] = (
                densely.motion[active] / MOTION_BOUND,
                expected.motion[active] / MOTION_BOUND,
            )
        error = _picture_error(deblurrer, colour, expected.mask, residual)
        stages = [Stage(name="picture", error=error, limit=1.0, measure=_LEVELS)]
    measure = relative_error if relative else _largest_error
    stages = [
        *(
            Stage(
                name=name,
                error=measure(*pair),
                limit=limits.get(name, LIMIT_FP32),
                measure=_RELATIVE if relative else _LARGEST[name],
            )
            for name, pair in pairs.items()
        ),
        *stages,
    ]
    return Verification(
        reference=words,
        backend=deblurrer.backend,
        precision=deblurrer.precision,
        coverage=float(expected.mask.mean()),
        stages=tuple(stages),
    )


def _limits(bundle: Bundle, deblurrer: Deblurrer) -> Mapping[str, float]:
    if deblurrer.precision not in bundle.limits:
        raise UsageError(
            f"the bundle {bundle.path} holds no {deblurrer.precision} graphs and so no limits for "
            "them: verify on a picture, with `m2a verify IMAGE`"
        )
    return bundle.limits[deblurrer.precision]


def bounded_logits(probability: NDArray[np.float32]) -> NDArray[np.float64]:
    """The logits of probabilities, within what float32 tells apart from 0 and 1."""
    inner = np.clip(probability.astype(np.float64), 1e-6, 1 - 1e-6)
    found: NDArray[np.float64] = np.log(inner / (1 - inner))
    return found


def relative_error(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Root mean square of the error over that of the expected values' own deviation.

    Returns:
        0 where they are equal, infinite where only the expected values are constant.
    """
    error = float(np.square(found.astype(np.float64) - expected).mean())
    power = float(expected.astype(np.float64).var())
    if error == 0:
        return 0.0
    return math.sqrt(error / power) if power > 0 else math.inf


def _largest_error(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return worst(found - expected)


def worst(difference: NDArray[np.float32]) -> float:
    """Returns the largest absolute value, or NaN where there is one."""
    return float(np.abs(difference).max(initial=0.0))


def _stored(bundle: Bundle) -> _Expected:
    reference = bundle.reference()
    return _Expected(
        image=reference.image,
        probability=reference.probability,
        mask=reference.mask,
        residual=reference.residual[reference.mask],
        motion=reference.motion,
    )


def _computed(bundle: Bundle, deblurrer: Deblurrer, image: Pixels) -> _Expected:
    slow = open_bundle_on(
        bundle, threshold=deblurrer.threshold, dilate=deblurrer.dilate, optimize=False
    )
    colour = check_pixels(image)
    picture = PaddedPicture(colour)
    probability = slow.predict(picture)
    mask = slow.active(probability)
    if not mask.any():
        empty = np.zeros(0, np.float32)
        return _Expected(
            image=image, probability=probability, mask=mask, residual=empty, motion=empty
        )
    restored = slow.restore(picture, mask, restoration=slow.gathered)
    return _Expected(
        image=image,
        probability=probability,
        mask=mask,
        residual=restored.residual[mask],
        motion=restored.motion,
    )


def _picture_error(
    deblurrer: Deblurrer,
    colour: Colour,
    mask: NDArray[np.bool_],
    residual: NDArray[np.float32],
) -> float:
    """The one call against the residual of its stages, in 8-bit levels.

    Infinite where a pixel outside the mask is not the input's.
    """
    output = deblurrer(colour.source, mask=mask).image
    if not np.array_equal(output[~mask], colour.source[~mask]):
        return float("inf")
    scale = colour.scale
    channels = colour.channels
    flat = output if output.ndim == 3 else output[:, :, None]
    source = colour.source if colour.source.ndim == 3 else colour.source[:, :, None]
    change = residual.astype(np.float64)
    if channels == 1:
        change = change.mean(axis=1, keepdims=True)
    values = source[mask][:, :channels].astype(np.float64) / scale
    exact = np.clip(values + change, 0, 1)
    found = flat[mask][:, :channels].astype(np.float64) / scale
    return float(np.abs(found - exact).max()) * 255
