"""Engines that are ONNX graphs, as `made_up_tensorrt` computes them, in a bundle."""

from __future__ import annotations

import hashlib

from m2a.engines.machine import Machine
from m2a.engines.profiles import default_profiles
from m2a.engines.sidecar import SIDECAR, BuiltGraph, Sidecar
from m2a.files import write_folder
from m2a.runtime import load
from m2a.runtime.bundle import GRAPHS

MACHINE = Machine(
    os="linux",
    arch="x86_64",
    tensorrt={"trt": "10.3.0"},
    gpus=(("8.9", "RTX 4090"), ("8.7", "Orin")),
)


def add_engines(bundle, name="trt10.3.0-fp32-sm87", **changes):
    """Writes engines of the bundle, as `build_engines` would; returns their sidecar."""
    graphs = {graph: bundle.graph(graph, precision="fp32") for graph in GRAPHS}
    hashes = {graph: hashlib.sha256(content).hexdigest() for graph, content in graphs.items()}
    fields = {
        "flavour": "trt",
        "version": "10.3.0",
        "precision": "fp32",
        "precision_source": "network",
        "compute_capability": "8.7",
        "gpu": "Orin",
        "os": "linux",
        "arch": "x86_64",
        "settings": {},
        "versions": {},
        "rebuild": ("m2a", "build-engine", "--fp32"),
        "sources": hashes,
        "graphs": {
            graph: BuiltGraph(
                path=f"{graph}.engine",
                sha256=hashes[graph],
                graph_sha256=hashes[graph],
                bytes=len(content),
                seconds=1.0,
                profiles={p.name: dict(p.sizes) for p in default_profiles(graph)},
                layer_types={"MATRIX_MULTIPLY": {"FLOAT": 1}},
            )
            for graph, content in graphs.items()
        },
    }
    sidecar = Sidecar(**{**fields, **changes})
    folder = bundle.path / "engines" / name
    folder.parent.mkdir(exist_ok=True)
    files = {sidecar.graphs[graph].path: content for graph, content in graphs.items()}
    write_folder(folder, {**files, SIDECAR: sidecar.serialise()})
    return sidecar


def load_gathering(bundle, **settings):
    """Opens a bundle on the CPU so that it gathers under any mask, as a pipeline on a GPU does."""
    deblurrer = load(bundle, **settings)
    deblurrer.dense = None
    return deblurrer
