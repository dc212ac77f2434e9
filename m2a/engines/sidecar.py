"""`engine.json`: what lies beside engines, and whether they will run here.

An engine is code for one kind of GPU and one version of TensorRT, and deserialising it runs it:
so all that is to be known of it is read here, without touching it. The file is untrusted input.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from m2a.engines.machine import Machine
from m2a.errors import EngineError
from m2a.files import read_regular
from m2a.runtime.bundle import GRAPHS, PRECISIONS, Bundle
from m2a.runtime.json_fields import JsonFields

SIDECAR = "engine.json"
SCHEMA = 1
SUFFIX = ".engine"
ENGINES = "engines"

MAX_SIDECAR = 2**24
"""Bytes of `engine.json`; ours have some thousand."""

MAX_ENGINE = 2**32
"""Bytes of an engine; ours have some millions."""

REBUILD = ("m2a", "build-engine")

PRODUCTS = ("CONVOLUTION", "MATRIX_MULTIPLY")
"""The layers that cost: their types are the precision of an engine."""

LayerTypes = Mapping[str, Mapping[str, int]]
"""Kind of layer → type of its output → how many."""


@dataclass(frozen=True, kw_only=True)
class BuiltGraph:
    """One engine of a pair.

    Attributes:
        path: relative to `engine.json`.
        sha256: of the engine.
        graph_sha256: of the ONNX graph that it was built from.
        bytes: its size.
        seconds: how long the build took.
        profiles: bucket → dimension → (smallest, typical, largest).
        layer_types: kind of layer → type of output → how many, of the parsed network.
    """

    path: str
    sha256: str
    graph_sha256: str
    bytes: int
    seconds: float
    profiles: Mapping[str, Mapping[str, tuple[int, int, int]]]
    layer_types: LayerTypes


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """The content of `engine.json`.

    Attributes:
        flavour: `trt` or `rtx`.
        version: of TensorRT.
        precision: as built: what the parsed network's products compute in.
        precision_source: how that is known: `network`, from the parsed layers.
        compute_capability: that it was built for, as `8.6`.
        gpu: the GPU it was built on; None where it was built ahead of time.
        os: `linux`, `windows`.
        arch: `x86_64`, `aarch64`.
        settings: every setting of the build.
        versions: package → version, when it was built.
        rebuild: the command that builds it again, as arguments; it begins with `REBUILD`.
        sources: `mask` and `restore` → the hash of the bundle's FP32 graph behind them.
        graphs: `mask` and `restore`.
    """

    flavour: str
    version: str
    precision: str
    precision_source: str
    compute_capability: str
    gpu: str | None
    os: str
    arch: str
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    rebuild: tuple[str, ...]
    sources: Mapping[str, str]
    graphs: Mapping[str, BuiltGraph]

    @property
    def rebuild_command(self) -> str:
        """The command that builds it again, to be typed into a shell."""
        return shlex.join(self.rebuild)

    def serialise(self) -> bytes:
        """Returns the content of the file."""
        return (json.dumps({"schema": SCHEMA, **asdict(self)}, indent=2) + "\n").encode()


def read_sidecar(path: Path) -> Sidecar:
    """Reads and validates `engine.json`.

    Args:
        path: the file, its folder, or an engine beside it.

    Raises:
        EngineError: it is missing, or not one that this version reads.
    """
    folder = path if path.is_dir() else path.parent
    file = folder / SIDECAR
    try:
        content = json.loads(read_regular(file, limit=MAX_SIDECAR).decode())
    except OSError as error:
        raise EngineError(
            f"{file} cannot be read ({error.strerror}): without it nothing is known of the engine. "
            "`m2a build-engine` writes both"
        ) from error
    except (ValueError, RecursionError) as error:
        raise EngineError(f"{file} is not JSON: {error}") from error
    return _parse(JsonFields(content, refuse=lambda message: _unreadable(file, message)))


def _unreadable(file: Path, message: str) -> EngineError:
    return EngineError(
        f"{file} is not a description of engines that this version reads: {message}. "
        "Build the engines again"
    )


def _parse(fields: JsonFields) -> Sidecar:
    if fields.get("schema", int) != SCHEMA:
        fields.refuse("schema", str(SCHEMA))
    texts = ("flavour", "version", "precision", "precision_source", "compute_capability")
    found = {name: fields.get(name, str) for name in (*texts, "os", "arch")}
    if found["precision"] not in PRECISIONS:
        fields.refuse("precision", f"one of {', '.join(PRECISIONS)}")
    rebuild = tuple(fields.get("rebuild", list))
    if not all(isinstance(word, str) for word in rebuild) or rebuild[: len(REBUILD)] != REBUILD:
        fields.refuse("rebuild", f"words that begin with {' '.join(REBUILD)}")
    graphs = fields.section("graphs")
    return Sidecar(
        **found,
        gpu=fields.get("gpu", str, NoneType),
        settings=fields.get("settings", dict),
        versions=fields.table("versions", str),
        rebuild=rebuild,
        sources={name: fields.section("sources").get(name, str) for name in GRAPHS},
        graphs={name: _parse_graph(graphs.section(name)) for name in GRAPHS},
    )


def _parse_graph(fields: JsonFields) -> BuiltGraph:
    path = fields.path("path")
    if len(path.parts) != 1 or path.suffix != SUFFIX:
        fields.refuse("path", f"a {SUFFIX} file beside {SIDECAR}")
    profiles = fields.section("profiles")
    types = fields.section("layer_types")
    return BuiltGraph(
        path=str(path),
        sha256=fields.get("sha256", str),
        graph_sha256=fields.get("graph_sha256", str),
        bytes=fields.get("bytes", int),
        seconds=fields.number("seconds"),
        profiles={bucket: _sizes(profiles.section(bucket)) for bucket in profiles.content},
        layer_types={kind: types.table(kind, int) for kind in types.content},
    )


def _sizes(bucket: JsonFields) -> dict[str, tuple[int, int, int]]:
    """Dimension → (smallest, typical, largest)."""
    sizes = {}
    for name in bucket.content:
        values = bucket.get(name, list)
        whole = len(values) == 3 and all(type(value) is int for value in values)
        if not whole or not 0 < values[0] <= values[1] <= values[2]:
            bucket.refuse(name, "three positive integers that ascend")
        sizes[name] = (values[0], values[1], values[2])
    return sizes


def read_engine(folder: Path, sidecar: Sidecar, graph: str) -> bytes:
    """Reads an engine's bytes, to be deserialised.

    Raises:
        EngineError: it is missing or is not the one that was built.
    """
    built = sidecar.graphs[graph]
    path = folder / built.path
    try:
        content = read_regular(path, limit=MAX_ENGINE)
    except OSError as error:
        raise EngineError(
            f"{path} cannot be read ({error.strerror}); build it again: {sidecar.rebuild_command}"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != built.sha256:
        raise EngineError(
            f"{path} is not the engine that was built: its SHA-256 is {found[:16]}…, {SIDECAR} "
            f"says {built.sha256[:16]}…. Build it again: {sidecar.rebuild_command}"
        )
    return content


def precision_as_built(layer_types: LayerTypes) -> str:
    """The precision of a parsed network, from its layers and not from what was asked for.

    `int8` where it quantises, else `fp16` where most of its products compute in half precision,
    else `fp32`.
    """
    if "QUANTIZE" in layer_types:
        return "int8"
    products = _products([layer_types])
    return "fp16" if 2 * products["HALF"] > products.total() else "fp32"


def describe_precision(sidecar: Sidecar) -> str:
    """The precision in words, with the counts that it was read from."""
    products = _products([graph.layer_types for graph in sidecar.graphs.values()])
    listed = ", ".join(f"{count} in {dtype}" for dtype, count in sorted(products.items()))
    return f"{sidecar.precision} (products of the parsed network: {listed})"


def _products(networks: Iterable[LayerTypes]) -> Counter[str]:
    """Type → products that give it."""
    counts: Counter[str] = Counter()
    for network in networks:
        for kind in PRODUCTS:
            counts.update(network.get(kind, {}))
    return counts


def reasons_against(sidecar: Sidecar, machine: Machine, bundle: Bundle | None = None) -> list[str]:
    """Why engines would not run here, in plain words; empty where nothing is known against it.

    Args:
        sidecar: of the engines.
        machine: this one.
        bundle: the bundle that they are to serve; None does not ask whether they are stale.
    """
    reasons = []
    if (sidecar.os, sidecar.arch) != (machine.os, machine.arch):
        reasons.append(
            f"built for {sidecar.os} on {sidecar.arch}, this is {machine.os} on {machine.arch}"
        )
    name = "TensorRT for RTX" if sidecar.flavour == "rtx" else "TensorRT"
    installed = machine.tensorrt.get(sidecar.flavour)
    if installed is None:
        reasons.append(f"it needs {name} {sidecar.version}, which is not installed")
    elif installed != sidecar.version:
        reasons.append(f"built by {name} {sidecar.version}, {installed} is installed")
    capabilities = [capability for capability, _ in machine.gpus]
    if not machine.gpus:
        reasons.append(
            f"it needs a GPU of compute capability {sidecar.compute_capability}: "
            f"{machine.without_gpu}"
        )
    elif sidecar.compute_capability not in capabilities:
        found = ", ".join(f"{gpu} ({capability})" for capability, gpu in machine.gpus)
        reasons.append(f"built for compute capability {sidecar.compute_capability}, found {found}")
    if bundle is not None and (stale := stale_graphs(sidecar, bundle)):
        reasons.append(f"the bundle's graphs changed since: {' and '.join(stale)}")
    return reasons


def stale_graphs(sidecar: Sidecar, bundle: Bundle) -> list[str]:
    """The graphs of a bundle that are others than those that engines were built from."""
    own = bundle.graphs.get(sidecar.precision, {})
    return [
        name
        for name in GRAPHS
        if bundle.graphs["fp32"][name].sha256 != sidecar.sources[name]
        or (name in own and own[name].sha256 != sidecar.graphs[name].graph_sha256)
    ]
