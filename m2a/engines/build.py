"""Building the engines of a bundle, and putting them where they are found again."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from m2a._version import __version__
from m2a.engines.machine import Machine
from m2a.engines.profiles import Profile, default_profiles
from m2a.engines.sidecar import SIDECAR, SUFFIX, BuiltGraph, Sidecar, precision_as_built
from m2a.engines.tensorrt import Plan, TensorRT, build_plan, check_target
from m2a.engines.timing_cache import TimingCacheFile
from m2a.errors import EngineError
from m2a.files import write_folder
from m2a.runtime.bundle import GRAPHS


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to build.

    Attributes:
        precision: of the graphs: `fp32`, `fp16` or `int8`.
        graphs: `mask` and `restore`, serialised, of that precision.
        sources: the hashes of the bundle's FP32 graphs behind them.
        target: a compute capability as `sm86`, ahead of time; None for the GPU at hand.
        workspace: bytes of scratch memory a layer may take; None leaves it to TensorRT.
        rebuild: the command that gave this order, as arguments.
    """

    precision: str
    graphs: Mapping[str, bytes]
    sources: Mapping[str, str]
    target: str | None
    workspace: int | None
    rebuild: tuple[str, ...]


def build_engines(
    order: Order,
    tensorrt: TensorRT,
    machine: Machine,
    folder: Path,
    *,
    timings: TimingCacheFile | None = None,
    report: Callable[[str, str, int, int], None] = lambda *_: None,
) -> Path:
    """Builds both engines and writes them with their `engine.json`, whole or not at all.

    Args:
        order: what to build.
        tensorrt: what builds it.
        machine: this one; its first GPU is the target where the order names none.
        folder: the folder of engines; theirs is made in it and named by their key.
        timings: what builds measured, shared by all builds for this GPU.
        report: called with the graph's name, the phase, the steps done in it and all its steps.

    Returns:
        The folder of the engines.

    Raises:
        EngineError: there is no GPU and no target, TensorRT refuses, the parsed network does not
            compute in the precision that was ordered, or the files cannot be written.
        UsageError: TensorRT cannot build for the target.
    """
    capability, gpu = resolve_target(order.target, machine, tensorrt)
    plans: dict[str, Plan] = {}
    profiles = {name: default_profiles(name) for name in GRAPHS}
    for name in GRAPHS:
        plans[name] = build_plan(
            tensorrt,
            order.graphs[name],
            profiles[name],
            target=order.target,
            workspace=order.workspace,
            timings=timings,
            report=functools.partial(report, name),
        )
        found, stated = precision_as_built(plans[name].layer_types), _stated(order, name)
        if found != stated:
            raise EngineError(
                f"the {name} network was ordered in {stated} and was parsed in {found}"
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
        sources=order.sources,
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


def _stated(order: Order, name: str) -> str:
    """The precision of a graph: calibration may have left all of one of the two in FP32."""
    unchanged = hashlib.sha256(order.graphs[name]).hexdigest() == order.sources[name]
    return "fp32" if unchanged else order.precision


def engine_key(sidecar: Sidecar) -> str:
    """The name of the engines' folder: what they run on, and a hash of all that made them."""
    made = [sidecar.graphs[name].graph_sha256 for name in GRAPHS]
    made += [str(sidecar.graphs[name].profiles) for name in GRAPHS]
    made.append(str(sorted(sidecar.settings.items())))
    digest = hashlib.sha256("\n".join(made).encode()).hexdigest()[:8]
    capability = "sm" + sidecar.compute_capability.replace(".", "")
    parts = (sidecar.precision, capability, sidecar.os, sidecar.arch, digest)
    return f"{sidecar.flavour}{sidecar.version}-{'-'.join(parts)}"


def resolve_target(
    target: str | None, machine: Machine, tensorrt: TensorRT
) -> tuple[str, str | None]:
    """What to build for; asked before any work is done.

    Args:
        target: a compute capability as `sm86`; None for the first GPU at hand.
        machine: this one.
        tensorrt: what builds it.

    Returns:
        The compute capability, as `8.6`, and the GPU's name where it is at hand.

    Raises:
        UsageError: TensorRT cannot build for the target.
        EngineError: there is neither a target nor a GPU.
    """
    check_target(tensorrt, target)
    if target is not None:
        digits = target.removeprefix("sm")
        return f"{digits[:-1]}.{digits[-1:]}", None
    if not machine.gpus:
        hint = (
            f"name the GPU that it is for with --target: {', '.join(tensorrt.targets)}"
            if tensorrt.targets
            else "build it on the machine that will run it"
        )
        raise EngineError(f"an engine is built for one kind of GPU: {machine.without_gpu}; {hint}")
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
