"""From a checkpoint to a bundle, whole or not at all (DESIGN section 5)."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from m2a._version import __version__
from m2a.export.mask_defaults import mask_defaults
from m2a.export.parity import Case, measure_parity, parity_cases
from m2a.export.reference import compute_reference, serialise_reference
from m2a.export.trace import trace_dense, trace_mask, trace_restore
from m2a.graphs.manifest import graph_entries, graph_path
from m2a.models.checkpoint import open_checkpoint
from m2a.models.cost import Cost, count_cost
from m2a.models.network import M2AENet
from m2a.runtime.backends import import_onnxruntime
from m2a.runtime.bundle import DEFAULT_DIRECTORY, REFERENCE, Reference
from m2a.runtime.bundle_files import check_replaceable, resolve_target, write_bundle
from m2a.runtime.manifest import (
    DENSE,
    GRAPHS,
    MANIFEST,
    SCHEMA,
    BundleDescription,
)
from m2a.runtime.sites import MULTIPLE, PATCH

_PACKAGES = ("torch", "onnx", "onnxscript", "onnxsim", "numpy")


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What an export did.

    Attributes:
        bundle: the directory.
        model: `small`, `base` or `custom`.
        parameters: part → number of parameters.
        cost: FLOP per pixel of each part.
        sizes: file of the bundle → bytes.
        parity: stage → worst error over all cases.
        threshold: the bundle's.
        dilate: the bundle's, pixels.
        replaced: the older bundle that was there, as it was; its files are gone.
    """

    bundle: Path
    model: str
    parameters: Mapping[str, int]
    cost: Cost
    sizes: Mapping[str, int]
    parity: Mapping[str, float]
    threshold: float
    dilate: int
    replaced: BundleDescription | None = None


def export_bundle(
    ckpt: str | Path,
    output: str | Path = DEFAULT_DIRECTORY,
    *,
    threshold: float | None = None,
    dilate: int | None = None,
    with_dense: bool = True,
    metrics: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> ExportReport:
    """Exports a checkpoint as a bundle.

    Reparameterizes the restorer into its gathered form, traces both graphs, checks them against
    their contract, compares every form of the network on several sizes and masks, and only then
    puts the bundle in its place, replacing an older bundle as a whole.

    Args:
        ckpt: a safetensors or `.pth` checkpoint of M2AENet.
        output: the bundle's directory.
        threshold: a pixel is active where its probability is at least this, in (0, 1). None takes
            what the checkpoint's header says, else 0.5.
        dilate: radius in pixels by which the mask is then dilated. None takes what the checkpoint's
            header says, else 4.
        with_dense: add the dense restorer, which is faster where next to nothing is left out.
        metrics: measured quality to record in the manifest.
        progress: called with the name of each step as it begins.

    Returns:
        The `ExportReport`.

    Raises:
        CheckpointError: the checkpoint cannot be read or does not fit, or its header is wrong.
        UsageError: the threshold or the dilation is out of range, or `output` exists and is not
            a bundle.
        ContractError: a traced graph breaks the contract.
        ParityError: a form of the network disagrees with the torch masked dense network, or the
            network does nothing.
    """
    source = Path(ckpt)
    target = resolve_target(Path(output))
    onnxruntime = import_onnxruntime(extra="cpu")  # missed now, not after minutes of tracing
    mask_defaults({}, source, threshold=threshold, dilate=dilate)  # refused before any work
    older = check_replaceable(target)
    progress("reading the checkpoint")
    network, header, weights = open_checkpoint(source)
    threshold, dilate = mask_defaults(header, source, threshold=threshold, dilate=dilate)
    progress("computing the reference")
    reference = compute_reference(network)
    progress("tracing the mask graph")
    models = {"mask": trace_mask(network)}
    progress("tracing the restoration graph")
    models["restore"] = trace_restore(network)
    graphs = {name: model.SerializeToString() for name, model in models.items()}
    if with_dense:
        progress("tracing the dense restorer")
        graphs[DENSE] = trace_dense(network).SerializeToString()
    progress("comparing torch and ONNX Runtime")
    parity = measure_parity(network, graphs, [*parity_cases(), _reference_case(reference)])

    files = {graph_path(name, "fp32"): content for name, content in graphs.items()}
    files[REFERENCE] = serialise_reference(reference)
    manifest: dict[str, Any] = {
        "schema": SCHEMA,
        "model": {
            "name": network.config.name,
            "config": network.config.to_json(),
            "checkpoint": {"name": source.name, "sha256": _sha256(weights)},
            "parameters": count_parameters(network),
            "flop_per_pixel": vars(count_cost(network.config)),
        },
        "preprocessing": {
            "color": "RGB",
            "range": [0, 1],
            "padding": "reflect right and bottom",
            "multiple": MULTIPLE,
            "patch": PATCH,
        },
        "threshold": threshold,
        "dilate": dilate,
        "graphs": {"fp32": graph_entries("fp32", {name: graphs[name] for name in GRAPHS})},
        "reference": {"path": REFERENCE, "sha256": _sha256(files[REFERENCE])},
        "parity": {stage: float(f"{error:.3g}") for stage, error in parity.items()},
        "metrics": dict(metrics or {}),
        "versions": {
            "m2a": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
            # The distribution is onnxruntime or onnxruntime-gpu; the module is one.
            "onnxruntime": str(onnxruntime.__version__),
        },
    }
    if with_dense:
        manifest[DENSE] = {"path": graph_path(DENSE, "fp32"), "sha256": _sha256(graphs[DENSE])}
    files[MANIFEST] = (json.dumps(manifest, indent=2) + "\n").encode()
    progress("writing the bundle")
    write_bundle(target, files)
    return ExportReport(
        bundle=Path(output),
        model=network.config.name,
        parameters=count_parameters(network),
        cost=count_cost(network.config),
        sizes={name: len(content) for name, content in files.items()},
        parity=parity,
        threshold=threshold,
        dilate=dilate,
        replaced=older,
    )


def count_parameters(network: M2AENet) -> dict[str, int]:
    """Trained parameters of each part; branches count as trained, not as fused."""
    return {
        "mask": sum(p.numel() for p in network.mask_predictor.parameters()),
        "restore": sum(p.numel() for p in network.restorer.parameters()),
    }


def _reference_case(reference: Reference) -> Case:
    return Case(
        name="reference image",
        image=reference.image.astype(np.float32) / np.float32(255),
        mask=reference.mask,
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
