"""Building the engines of a bundle, and putting them where they are found again."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from m2a._version import __version__
from m2a.cache import cache_folder
from m2a.engines.profiles import Profile, default_profiles
from m2a.engines.sidecar import SIDECAR, SUFFIX, BuiltGraph, Machine, Sidecar
from m2a.engines.tensorrt import LayerTypes, Plan, TensorRT, build_plan
from m2a.errors import EngineError
from m2a.files import atomic_write, write_folder
from m2a.runtime.bundle import GRAPHS, PACKAGED, Bundle

PRODUCTS = ("CONVOLUTION", "MATRIX_MULTIPLY")
"""The layers that cost: their types are the precision of an engine."""

_LOCK_SECONDS = 600


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to build.

    Attributes:
        precision: of the graphs: `fp32`, `fp16` or `int8`.
        graphs: `mask` and `restore`, serialised, of that precision.
        target: a compute capability as `sm86`, ahead of time; None for the GPU at hand.
        workspace: bytes of scratch memory a layer may take; None leaves it to TensorRT.
        rebuild: the command that gave this order, as arguments.
    """

    precision: str
    graphs: Mapping[str, bytes]
    target: str | None
    workspace: int | None
    rebuild: tuple[str, ...]


def build_engines(
    order: Order,
    tensorrt: TensorRT,
    machine: Machine,
    folder: Path,
    *,
    timing_cache: Path | None = None,
    report: Callable[[str, str, int, int], None] = lambda *_: None,
) -> Path:
    """Builds both engines and writes them with their `engine.json`, whole or not at all.

    Args:
        order: what to build.
        tensorrt: what builds it.
        machine: this one; its first GPU is the target where the order names none.
        folder: the folder of engines; theirs is made in it and named by their key.
        timing_cache: a file that keeps what builds measured, shared by all builds.
        report: called with the graph's name, the phase, the steps done in it and all its steps.

    Returns:
        The folder of the engines.

    Raises:
        EngineError: there is no GPU and no target, TensorRT refuses, the parsed network does not
            compute in the precision that was ordered, or the files cannot be written.
        UsageError: TensorRT cannot build for the target.
    """
    capability, gpu = _target(order, machine, tensorrt)
    plans: dict[str, Plan] = {}
    profiles = {name: default_profiles(name) for name in GRAPHS}
    for name in GRAPHS:
        with _timings(timing_cache) as timings:
            plans[name], timings.after = build_plan(
                tensorrt,
                order.graphs[name],
                profiles[name],
                target=order.target,
                workspace=order.workspace,
                timing_cache=timings.before,
                report=functools.partial(report, name),
            )
        found = precision_as_built(plans[name].layer_types)
        if found != order.precision:
            raise EngineError(
                f"the {name} network was ordered in {order.precision} and was parsed in {found}"
            )
    sidecar = Sidecar(
        flavour=tensorrt.flavour,
        version=tensorrt.version,
        precision=order.precision,
        precision_source="network",
        compute_capability=capability,
        gpu=gpu,
        os=machine.os,
        arch=machine.arch,
        settings={"strongly_typed": True, "tf32": False, "workspace": order.workspace},
        versions={"m2a": __version__, "python": platform.python_version(), **_versions()},
        rebuild=order.rebuild,
        graphs={
            name: _described(name, plans[name], order.graphs[name], profiles[name])
            for name in GRAPHS
        },
    )
    target = folder / engine_key(sidecar)
    files = {sidecar.graphs[name].path: plans[name].content for name in GRAPHS}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_folder(target, {**files, SIDECAR: sidecar.serialise()})
    except OSError as error:
        raise EngineError(f"cannot write the engines to {target}: {error.strerror}") from error
    return target


def engines_folder(bundle: Bundle) -> Path:
    """Where a bundle's engines lie: in it, or in the user's cache for the one in the package."""
    if bundle.path.resolve() == PACKAGED.resolve():
        return cache_folder() / "engines"
    return bundle.path / "engines"


def precision_as_built(layer_types: LayerTypes) -> str:
    """The precision of a parsed network, from its layers and not from what was asked for.

    `int8` where it quantises, else `fp16` where most of its products compute in half precision,
    else `fp32`.
    """
    if "QUANTIZE" in layer_types:
        return "int8"
    counts: dict[str, int] = {}
    for kind in PRODUCTS:
        for dtype, count in layer_types.get(kind, {}).items():
            counts[dtype] = counts.get(dtype, 0) + count
    return "fp16" if 2 * counts.get("HALF", 0) > sum(counts.values()) else "fp32"


def engine_key(sidecar: Sidecar) -> str:
    """The name of the engines' folder: what they run on, and a hash of all that made them."""
    made = [sidecar.graphs[name].graph_sha256 for name in GRAPHS]
    made += [str(sidecar.graphs[name].profiles) for name in GRAPHS]
    made.append(str(sorted(sidecar.settings.items())))
    digest = hashlib.sha256("\n".join(made).encode()).hexdigest()[:8]
    capability = "sm" + sidecar.compute_capability.replace(".", "")
    parts = (sidecar.precision, capability, sidecar.os, sidecar.arch, digest)
    return f"{sidecar.flavour}{sidecar.version}-{'-'.join(parts)}"


def _target(order: Order, machine: Machine, tensorrt: TensorRT) -> tuple[str, str | None]:
    """Compute capability to build for, as `8.6`, and the GPU's name where it is at hand."""
    if order.target is not None:
        digits = order.target.removeprefix("sm")
        return f"{digits[:-1]}.{digits[-1:]}", None
    if not machine.gpus:
        known = ", ".join(tensorrt.targets)
        hint = (
            f"name the GPU that it is for with --target: {known}"
            if known
            else "build it on the machine that will run it"
        )
        raise EngineError(f"an engine is built for one kind of GPU, and there is none here; {hint}")
    return machine.gpus[0]


def _described(name: str, plan: Plan, graph: bytes, profiles: tuple[Profile, ...]) -> BuiltGraph:
    return BuiltGraph(
        path=name + SUFFIX,
        sha256=hashlib.sha256(plan.content).hexdigest(),
        graph_sha256=hashlib.sha256(graph).hexdigest(),
        bytes=len(plan.content),
        seconds=round(plan.seconds, 1),
        profiles={profile.name: dict(profile.sizes) for profile in profiles},
        layer_types=plan.layer_types,
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in ("onnx", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


class _Timings:
    """What a build is given of the timing cache, and what it gives back."""

    def __init__(self, before: bytes | None) -> None:
        self.before = before
        self.after: bytes | None = None


@contextlib.contextmanager
def _timings(path: Path | None) -> Iterator[_Timings]:
    """Reads the timing cache, and writes it back, one build at a time: none loses another's."""
    if path is None:
        yield _Timings(None)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{path}.lock", timeout=_LOCK_SECONDS):
            timings = _Timings(path.read_bytes() if path.exists() else None)
            yield timings
            if timings.after is not None:
                atomic_write(path, timings.after, overwrite=True)
    except Timeout as error:
        raise EngineError(
            f"another build has held {path}.lock for {_LOCK_SECONDS // 60} minutes; wait for it, "
            "or delete the lock if no build runs"
        ) from error


def describe_precision(sidecar: Sidecar) -> str:
    """The precision in words, with the counts that it was read from."""
    counts: dict[str, int] = {}
    for graph in sidecar.graphs.values():
        for kind in PRODUCTS:
            types: Mapping[str, Any] = graph.layer_types.get(kind, {})
            for dtype, count in types.items():
                counts[dtype] = counts.get(dtype, 0) + int(count)
    listed = ", ".join(f"{count} in {dtype}" for dtype, count in sorted(counts.items()))
    return f"{sidecar.precision} (products of the parsed network: {listed})"
