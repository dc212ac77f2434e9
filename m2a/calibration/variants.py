"""Variants of a bundle in another precision, and their judgement on the bundle's own reference.

A variant is judged on the bundle's own reference before it is written. The errors of the mask's
logits and of the residual must lie far below their own deviation, whatever that is: a mask that
happens to be empty there, or a picture that hardly changes, would otherwise hide any error. What
was measured, with some room, becomes the limits of `m2a verify` on the reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from m2a.errors import PrecisionError
from m2a.evaluation.metrics import overlap
from m2a.graphs.contract import check_contract
from m2a.graphs.float16 import to_float16
from m2a.runtime.backends import DEFAULT_BACKEND, open_runners
from m2a.runtime.bundle import GRAPHS, Bundle, Reference
from m2a.runtime.graph_inputs import extract_patches, mask_graph_image
from m2a.runtime.manifest import LIMIT_FP32, STAGES
from m2a.runtime.sites import build_sites, pad_image, pad_mask
from m2a.runtime.verify import MOTION_BOUND, bounded_logits, relative_error, worst

MIN_IOU = 0.97
"""Least intersection over union of a variant's mask and the FP32 one."""

MIN_MARGIN = 12.0
"""dB by which errors must lie below the FP32 values: here those of logits and residual below their
own deviation, on photos the error of what is added below its power."""

ROOM = {"fp16": 3.0, "int8": 1.5}
"""The limits of `verify` are what was measured times this: another processor rounds otherwise.
What was rounded to INT8 is multiplied exactly, so that less of it differs."""

HALF_SIDE = 64
"""Side in pixels of the crop on which true half arithmetic is evaluated: it is slow."""

Graphs = Mapping[str, bytes]
Outputs = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A variant that passed.

    Attributes:
        precision: `fp16` or `int8`.
        graphs: `mask` and `restore`, serialised.
        errors: stage → largest absolute error on the reference, for FP16 in true half arithmetic
            too; of motion, as a share of its 48-pixel bound.
        mask_iou: of the thresholded mask with FP32's.
        mask_margin: dB by which the error of the mask's logits lies below their deviation.
        residual_margin: the same of the residual.
        record: what else was measured, JSON values for the manifest.
    """

    precision: str
    graphs: Graphs
    errors: Mapping[str, float]
    mask_iou: float
    mask_margin: float
    residual_margin: float
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def limits(self) -> dict[str, float]:
        """Stage → what `verify` accepts of this variant."""
        return {
            stage: min(1.0, float(f"{max(LIMIT_FP32, ROOM[self.precision] * error):.2g}"))
            for stage, error in self.errors.items()
        }

    def to_json(self) -> dict[str, Any]:
        """Returns what was measured as JSON values; what is infinite is null."""
        return {
            "errors": {stage: float(f"{error:.3g}") for stage, error in self.errors.items()},
            "mask_iou": round(self.mask_iou, 4),
            "mask_margin_db": rounded(self.mask_margin, 1),
            "residual_margin_db": rounded(self.residual_margin, 1),
            **self.record,
        }


def rounded(value: float | None, digits: int) -> float | None:
    """A JSON number; None of what is infinite, for which JSON has none, or None itself."""
    return None if value is None or math.isinf(value) else round(value, digits)


def make_float16(bundle: Bundle, *, progress: Callable[[str], None] = lambda _: None) -> Variant:
    """Makes and judges the FP16 variant of a bundle.

    ONNX Runtime computes FP16 graphs on a CPU in FP32 and rounds in between, which hides an
    overflow within a node; so a crop is evaluated in true half arithmetic too.

    Args:
        bundle: holds FP32 graphs and the reference.
        progress: called with the name of each step as it begins.

    Returns:
        The variant; nothing is written.

    Raises:
        PrecisionError: a weight lies outside FP16's range, a value is not finite, or the variant
            is not good enough; the message has the figures.
        BundleError: the bundle is damaged.
    """
    progress("making the FP16 graphs")
    single = {name: bundle.graph(name, precision="fp32") for name in GRAPHS}
    graphs = {}
    for name, content in single.items():
        half = to_float16(onnx.load_model_from_string(content))
        check_contract(half, name, precision="fp16")
        graphs[name] = half.SerializeToString()
    progress("comparing FP16 with FP32")
    variant = judge(bundle, "fp16", graphs)
    progress("computing a crop in half arithmetic")
    reference = bundle.reference()
    crop = cut(reference, crop_of(reference.mask))
    expected = _computed(single, crop)
    found = computed_by_definition(graphs, crop)
    in_words = "fp16 in true half arithmetic"
    check_outputs(in_words, found)
    figures = _figures(bundle, expected, found)
    _refuse_another_picture(
        in_words, figures["mask_iou"], figures["mask_margin"], figures["residual_margin"]
    )
    in_half = _errors(expected, found)
    errors = {stage: max(error, in_half[stage]) for stage, error in variant.errors.items()}
    return replace(variant, errors=errors)


def judge(bundle: Bundle, precision: str, graphs: Graphs) -> Variant:
    """Compares a variant with the FP32 graphs on the bundle's reference.

    Args:
        bundle: holds FP32 graphs and the reference.
        precision: the variant's.
        graphs: the variant's `mask` and `restore`.

    Returns:
        The variant with what was measured.

    Raises:
        PrecisionError: the mask's IoU is below 0.97, a margin is below 12 dB, or a value is not
            finite.
    """
    variant = measure(bundle, precision, graphs)
    _refuse_another_picture(
        precision, variant.mask_iou, variant.mask_margin, variant.residual_margin
    )
    return variant


def measure(bundle: Bundle, precision: str, graphs: Graphs) -> Variant:
    """As `judge`, but refuses only values that are not finite: other photos judge the variant."""
    reference = bundle.reference()
    single = {name: bundle.graph(name, precision="fp32") for name in GRAPHS}
    expected, found = (_computed(each, reference) for each in (single, graphs))
    check_outputs(precision, found)
    figures = _figures(bundle, expected, found)
    return Variant(
        precision=precision,
        graphs=graphs,
        errors=_errors(expected, found),
        mask_iou=figures["mask_iou"],
        mask_margin=figures["mask_margin"],
        residual_margin=figures["residual_margin"],
    )


def _errors(expected: Outputs, found: Outputs) -> dict[str, float]:
    """Stage → largest absolute error, as `verify` measures it."""
    errors = [worst(found[name] - expected[name]) for name in ("mask", "residual", "motion")]
    errors[2] /= MOTION_BOUND
    return dict(zip(STAGES, errors, strict=True))


def check_outputs(name: str, outputs: Outputs) -> None:
    """Refuses values that are not finite.

    Raises:
        PrecisionError: an output, which is named, holds some.
    """
    for output, values in outputs.items():
        if not np.isfinite(values).all():
            raise PrecisionError(
                f"{name}: {output} holds values that are not finite; FP16 ends at 65504. "
                "Keep this model in FP32"
            )


def _figures(bundle: Bundle, expected: Outputs, found: Outputs) -> dict[str, float]:
    """The mask's IoU and the margins of a `Variant`."""
    return {
        "mask_iou": overlap(*(o["mask"] >= bundle.threshold for o in (found, expected))).iou,
        "mask_margin": _margin(bounded_logits(found["mask"]), bounded_logits(expected["mask"])),
        "residual_margin": _margin(found["residual"], expected["residual"]),
    }


def _refuse_another_picture(name: str, iou: float, mask: float, residual: float) -> None:
    if not (iou >= MIN_IOU and min(mask, residual) >= MIN_MARGIN):
        raise PrecisionError(
            f"{name} does not give the same picture as FP32: the IoU of the masks is {iou:.3f}, "
            f"expected at least {MIN_IOU}; the errors of the mask's logits and of the residual lie "
            f"{mask:.1f} and {residual:.1f} dB below their own deviation, expected at least "
            f"{MIN_MARGIN:.0f} dB. Keep this model in FP32"
        )


def _margin(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The relative error in decibels, as a distance."""
    error = relative_error(found, expected)
    if error in {0, math.inf}:
        return math.inf if error == 0 else -math.inf
    return -20 * math.log10(error)


def crop_of(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns in which most of a mask [H, W] is active, few enough for the slow way."""
    tops, lefts = (_begins(side) for side in mask.shape)
    places = [
        (slice(top, top + HALF_SIDE), slice(left, left + HALF_SIDE))
        for top in tops
        for left in lefts
    ]
    return max(places, key=lambda place: int(mask[place].sum()))


def _begins(side: int) -> list[int]:
    """Where crops begin that overlap by half, and one that ends where the side ends."""
    last = max(0, side - HALF_SIDE)
    return [*range(0, last, HALF_SIDE // 2), last]


def cut(reference: Reference, place: tuple[slice, slice]) -> Reference:
    """A part of the reference, without its motion."""
    return Reference(
        image=reference.image[place],
        probability=reference.probability[place],
        mask=reference.mask[place],
        residual=reference.residual[place],
        motion=np.zeros(0, np.float32),
    )


def _feeds(reference: Reference) -> tuple[Outputs, dict[str, NDArray[np.generic]]]:
    surroundings = pad_image(reference.image.astype(np.float32) / np.float32(255))
    sites = build_sites(pad_mask(reference.mask))
    patches = extract_patches(surroundings, sites.pixels)
    return {"image": mask_graph_image(surroundings)}, {"patches": patches, **sites.tables}


def _computed(graphs: Graphs, reference: Reference) -> Outputs:
    mask, restore = open_runners([graphs[name] for name in GRAPHS], backend=DEFAULT_BACKEND)
    image, tables = _feeds(reference)
    return mask.run(image) | restore.run(tables)


def computed_by_definition(graphs: Graphs, reference: Reference) -> Outputs:
    """Evaluates the graphs node by node in the types they state."""
    outputs: Outputs = {}
    feeds = _feeds(reference)
    for number, name in enumerate(GRAPHS):
        model = onnx.load_model_from_string(graphs[name])
        with np.errstate(over="ignore", invalid="ignore"):  # judged by what comes out
            results = ReferenceEvaluator(model).run(None, feeds[number])
        for output, result in zip(model.graph.output, results, strict=True):
            outputs[output.name] = np.asarray(result)
    return outputs
