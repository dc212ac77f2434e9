"""A model repository: which files it consists of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from m2a._version import __version__
from m2a.errors import UsageError
from m2a.files import read_regular
from m2a.runtime.arguments import check_active, check_memory
from m2a.runtime.bundle import GRAPHS, MANIFEST, Bundle
from m2a.runtime.ensemble import check_ensemble
from m2a.runtime.manifest import MAX_MANIFEST
from m2a.triton.configuration import (
    FILE,
    PICTURE,
    Entry,
    entry_config,
    onnx_config,
    plan_config,
    to_text,
)
from m2a.triton.place import CONTENTS
from m2a.triton.plans import Plans, find_plans, memory_within_profiles
from m2a.triton.settings import BUNDLE, IN_PROCESS, SERVER, StitchSettings, part_name
from m2a.triton.sources import model_files
from m2a.triton.warmup import graph_sample, picture_sample, warmup_files

__all__ = ["BACKENDS", "Order", "repository_files"]

ONNX, TENSORRT, PYTHON = BACKENDS = ("onnx", "tensorrt", "python")
"""Who computes the graphs: Triton's backend for ONNX Runtime, that for TensorRT, or ONNX Runtime
in the process of the stitching model, for a server that has the Python backend alone."""

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a repository is to be.

    Attributes:
        backend: one of `BACKENDS`.
        precision: which of the bundle's graphs or engines.
        threshold: as `StitchSettings`; so are `dilate`, `ensemble`, `max_pixels`, `max_memory` and
            `threads`.
        instances: processes per stitching model.
        version: the models' version, a positive number.

    Raises:
        UsageError: the backend is unknown.
    """

    backend: str
    precision: str
    threshold: float
    dilate: int
    ensemble: int = 1
    max_pixels: int
    max_memory: int | None
    threads: int | None
    instances: int
    version: int

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise UsageError(f"unknown backend {self.backend!r}; known are {', '.join(BACKENDS)}")


def repository_files(bundle: Bundle, order: Order) -> dict[str, bytes]:
    """Returns the files of a repository: path → content.

    Args:
        bundle: its graphs or engines are copied.
        order: what the repository is to be.

    Raises:
        UsageError: an option is out of range, or the bundle lacks the precision.
        BundleError: the bundle is damaged.
        EngineError: it has no engines that a server could load.
    """
    plans = None
    memory = order.max_memory
    if order.backend == TENSORRT:
        plans = find_plans(bundle, precision=order.precision)
        if memory is None:
            memory = memory_within_profiles(bundle, plans.sidecar)
    check_active(order.threshold, order.dilate)
    check_ensemble(order.ensemble)
    if memory is not None:
        check_memory(bundle, memory)
    in_process = order.backend == PYTHON
    settings = StitchSettings(
        graphs=IN_PROCESS if in_process else SERVER,
        precision=order.precision,
        threshold=order.threshold,
        dilate=order.dilate,
        ensemble=order.ensemble,
        max_pixels=order.max_pixels,
        max_memory=memory,
        threads=order.threads,
    )
    manifest = read_regular(bundle.path / MANIFEST, limit=MAX_MANIFEST)
    origin = {
        "m2a_version": __version__,
        "bundle_sha256": hashlib.sha256(manifest).hexdigest(),
        "precision": order.precision,
    }
    carried = {MANIFEST: manifest}
    if in_process:
        carried |= _graphs(bundle, order.precision)
    files: dict[str, bytes] = {}
    for entry in (PICTURE, FILE):
        files |= _stitching_model(entry, bundle, order, settings, carried, origin)
    for graph in () if in_process else GRAPHS:
        files |= _part(graph, bundle, order, plans, origin)
    return files | {CONTENTS: _contents(order, origin, files)}


def _graphs(bundle: Bundle, precision: str) -> dict[str, bytes]:
    """The files of the graphs, where the manifest says that they lie."""
    contents = {name: bundle.graph(name, precision=precision) for name in GRAPHS}
    return {bundle.graphs[precision][name].path: contents[name] for name in GRAPHS}


def _stitching_model(
    entry: Entry,
    bundle: Bundle,
    order: Order,
    settings: StitchSettings,
    carried: Mapping[str, bytes],
    origin: Mapping[str, str],
) -> dict[str, bytes]:
    """A model that clients ask, with the code and the part of the bundle that it carries."""
    warmed = entry is PICTURE and settings.graphs == IN_PROCESS
    sample = picture_sample(bundle.reference()) if warmed else {}
    config = entry_config(
        entry,
        parameters={**origin, **settings.to_parameters()},
        instances=order.instances,
        sample=sample,
    )
    inside = model_files(entry.module)
    inside |= {f"{BUNDLE}/{path}": content for path, content in carried.items()}
    return {
        f"{entry.name}/config.pbtxt": to_text(config),
        **{f"{entry.name}/{order.version}/{path}": content for path, content in inside.items()},
        **warmup_files(entry.name, sample),
    }


def _part(
    graph: str, bundle: Bundle, order: Order, plans: Plans | None, origin: Mapping[str, str]
) -> dict[str, bytes]:
    """A graph as a model of the server: ONNX, or engines, one for each kind of GPU."""
    sample = graph_sample(graph, bundle.reference())
    if plans is None:
        config = onnx_config(graph, parameters=origin, sample=sample, threads=order.threads)
        inside = {config.default_model_filename: bundle.graph(graph, precision=order.precision)}
    else:
        names = {capability: f"model-{capability}.plan" for capability in plans.contents}
        config = plan_config(
            graph,
            parameters={**origin, "tensorrt": plans.version},
            sample=sample,
            plans=names,
            profiles=len(plans.sidecar.graphs[graph].profiles),
        )
        inside = {names[capability]: pair[graph] for capability, pair in plans.contents.items()}
    model = part_name(graph)
    return {
        f"{model}/config.pbtxt": to_text(config),
        **{f"{model}/{order.version}/{name}": content for name, content in inside.items()},
        **warmup_files(model, sample),
    }


def _contents(order: Order, origin: Mapping[str, str], files: Mapping[str, bytes]) -> bytes:
    hashes = {path: hashlib.sha256(content).hexdigest() for path, content in sorted(files.items())}
    content = {
        "schema": SCHEMA,
        "backend": order.backend,
        "model_version": order.version,
        **origin,
        "files": hashes,
    }
    return (json.dumps(content, indent=2) + "\n").encode()
