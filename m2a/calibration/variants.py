"""Making a variant of a bundle in another precision, judging it, and adding it.

A variant is judged on the bundle's own reference before it is written. The errors of the mask's
logits and of the residual must lie far below their own deviation, whatever that is: a mask that
happens to be empty there, or a picture that hardly changes, would otherwise hide any error. What
was measured, with some room, becomes the limits of `m2a verify` on the reference.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from m2a.errors import BundleError, PrecisionError
from m2a.evaluation.metrics import overlap
from m2a.files import atomic_write
from m2a.graphs.contract import check_contract
from m2a.graphs.float16 import to_float16
from m2a.graphs.manifest import graph_entries, graph_path
from m2a.runtime.backends import DEFAULT_BACKEND, open_runners
from m2a.runtime.bundle import GRAPHS, MANIFEST, Bundle, Reference, open_bundle
from m2a.runtime.graph_inputs import extract_patches, mask_graph_image
from m2a.runtime.manifest import LIMIT_FP32, STAGES
from m2a.runtime.sites import build_sites, pad_image, pad_mask
from m2a.runtime.verify import MOTION_BOUND, logits, relative_error, worst

MIN_IOU = 0.97
"""Least intersection over union of a variant's mask and the FP32 one."""

MIN_MARGIN = 12.0
"""dB by which errors of logits and residual must lie below the FP32 values' own deviation."""

ROOM = 3.0
"""The limits of `verify` are what was measured times this: another processor rounds otherwise."""

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
    """

    precision: str
    graphs: Graphs
    errors: Mapping[str, float]
    mask_iou: float
    mask_margin: float
    residual_margin: float

    @property
    def limits(self) -> dict[str, float]:
        """Stage → what `verify` accepts of this variant."""
        return {
            stage: float(f"{max(LIMIT_FP32, ROOM * error):.2g}")
            for stage, error in self.errors.items()
        }

    def to_json(self) -> dict[str, Any]:
        """Returns what was measured as JSON values."""
        return {
            "errors": {stage: float(f"{error:.3g}") for stage, error in self.errors.items()},
            "mask_iou": round(self.mask_iou, 4),
            "mask_margin_db": round(self.mask_margin, 1),
            "residual_margin_db": round(self.residual_margin, 1),
        }


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
    crop = _crop(bundle.reference())
    expected = _computed(single, crop)
    found = _computed_by_definition(graphs, crop)
    _judge_outputs("fp16 in true half arithmetic", bundle, expected, found)
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
    reference = bundle.reference()
    single = {name: bundle.graph(name, precision="fp32") for name in GRAPHS}
    expected, found = (_computed(each, reference) for each in (single, graphs))
    judged = _judge_outputs(precision, bundle, expected, found)
    return Variant(precision=precision, graphs=graphs, errors=_errors(expected, found), **judged)


def add_variant(bundle: Bundle, variant: Variant) -> Bundle:
    """Writes a variant into its bundle.

    The manifest names the variant only while its files are whole: an older one is taken out first,
    and the new one comes in last. A write that fails leaves a bundle without the variant.

    Args:
        bundle: the one from which the variant was made.
        variant: judged.

    Returns:
        The bundle, read again.

    Raises:
        BundleError: the bundle is the one inside the package, which is not changed; its graphs are
            no longer those the variant was made from; a link leads out of it; or the files cannot
            be written.
    """
    if bundle.packaged:
        raise BundleError(
            "the bundle inside the package is not changed; export one of your own, or copy it"
        )
    precision = variant.precision
    content = _unchanged_manifest(bundle)
    sections = {
        "graphs": graph_entries(precision, variant.graphs),
        "limits": variant.limits,
        "variants": variant.to_json(),
    }
    files = {graph_path(name, precision): graph for name, graph in variant.graphs.items()}
    home = bundle.path.resolve()
    for file in [*files, MANIFEST]:
        if home not in (bundle.path / file).resolve().parents:
            raise BundleError(f"{bundle.path / file} is a link that leaves the bundle; remove it")
    try:
        if precision in content["graphs"]:
            for section in sections:
                content.get(section, {}).pop(precision, None)
            _write_manifest(bundle, content)
        for file, graph in files.items():
            path = bundle.path / file
            path.parent.mkdir(exist_ok=True)
            atomic_write(path, graph, overwrite=True)
        for section, values in sections.items():
            content.setdefault(section, {})[precision] = values
        _write_manifest(bundle, content)
    except OSError as error:
        raise BundleError(
            f"cannot write the {precision} graphs into {bundle.path}: {error.strerror}"
        ) from error
    return open_bundle(bundle.path, origin=bundle.origin)


def _unchanged_manifest(bundle: Bundle) -> dict[str, Any]:
    """The manifest as it is now, if it still names the graphs that the bundle was opened with."""
    now = open_bundle(bundle.path, origin=bundle.origin)
    if now.graphs["fp32"] != bundle.graphs["fp32"]:
        raise BundleError(
            f"the bundle {bundle.path} was exported again meanwhile; make its variant again"
        )
    manifest: dict[str, Any] = json.loads(json.dumps(now.manifest))
    return manifest


def _write_manifest(bundle: Bundle, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=2) + "\n"
    atomic_write(bundle.path / MANIFEST, text.encode(), overwrite=True)


def _errors(expected: Outputs, found: Outputs) -> dict[str, float]:
    """Stage → largest absolute error, as `verify` measures it."""
    errors = [worst(found[name] - expected[name]) for name in ("mask", "residual", "motion")]
    errors[2] /= MOTION_BOUND
    return dict(zip(STAGES, errors, strict=True))


def _judge_outputs(
    name: str, bundle: Bundle, expected: Outputs, found: Outputs
) -> dict[str, float]:
    """Returns the mask's IoU and the margins of a `Variant`, or refuses."""
    for output, values in found.items():
        if not np.isfinite(values).all():
            raise PrecisionError(
                f"{name}: {output} holds values that are not finite; FP16 ends at 65504. "
                "Keep this model in FP32"
            )
    iou = overlap(*(outputs["mask"] >= bundle.threshold for outputs in (found, expected))).iou
    mask = _margin(logits(found["mask"]), logits(expected["mask"]))
    residual = _margin(found["residual"], expected["residual"])
    if not (iou >= MIN_IOU and min(mask, residual) >= MIN_MARGIN):
        raise PrecisionError(
            f"{name} does not give the same picture as FP32: the IoU of the masks is {iou:.3f}, "
            f"expected at least {MIN_IOU}; the errors of the mask's logits and of the residual lie "
            f"{mask:.1f} and {residual:.1f} dB below their own deviation, expected at least "
            f"{MIN_MARGIN:.0f} dB. Keep this model in FP32"
        )
    return {"mask_iou": iou, "mask_margin": mask, "residual_margin": residual}


def _margin(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The relative error in decibels, as a distance."""
    error = relative_error(found, expected)
    if error in {0, math.inf}:
        return math.inf if error == 0 else -math.inf
    return -20 * math.log10(error)


def _crop(reference: Reference) -> Reference:
    """The part of the reference with most active pixels, small enough for the slow evaluation."""
    height, width = (min(HALF_SIDE, side) for side in reference.mask.shape)
    crops = [
        (slice(top, top + height), slice(left, left + width))
        for top in range(0, reference.mask.shape[0] - height + 1, HALF_SIDE // 2)
        for left in range(0, reference.mask.shape[1] - width + 1, HALF_SIDE // 2)
    ]
    best = max(crops, key=lambda crop: int(reference.mask[crop].sum()))
    return Reference(
        image=reference.image[best],
        probability=reference.probability[best],
        mask=reference.mask[best],
        residual=reference.residual[best],
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


def _computed_by_definition(graphs: Graphs, reference: Reference) -> Outputs:
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
