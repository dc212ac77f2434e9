"""Which of a bundle's engines a Triton server can load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from m2a.engines.selection import engines_folder, find_sidecars
from m2a.engines.sidecar import SIDECAR, Sidecar, read_engine, read_sidecar, stale_graphs
from m2a.errors import EngineError
from m2a.runtime.bundle import GRAPHS, Bundle
from m2a.runtime.sites import CELL

__all__ = ["Plans", "find_plans", "memory_within_profiles"]


@dataclass(frozen=True, kw_only=True)
class Plans:
    """Engines of one version of TensorRT, one pair per kind of GPU.

    Attributes:
        version: of TensorRT; the server's must be the same.
        contents: compute capability → graph → the serialised engine.
        sidecar: of the first pair; profiles are those of all.
    """

    version: str
    contents: Mapping[str, Mapping[str, bytes]]
    sidecar: Sidecar


def find_plans(bundle: Bundle, *, precision: str) -> Plans:
    """Gathers a bundle's engines for a server, which need not be this machine.

    Of several for one compute capability, those that were built last.

    Args:
        bundle: what they compute.
        precision: as built: `fp32`, `fp16` or `int8`.

    Raises:
        EngineError: there are none that Triton's TensorRT backend takes, they are of several
            versions of TensorRT, or a file is not the one that was built.
    """
    folder = engines_folder(bundle)
    chosen: dict[str, tuple[Path, Sidecar]] = {}
    refused: list[str] = []
    for file in sorted(find_sidecars(folder), key=lambda file: file.stat().st_mtime):
        try:
            sidecar = read_sidecar(file)
        except EngineError as error:
            refused.append(str(error))
            continue
        if reason := _reason_against(sidecar, bundle, precision=precision):
            refused.append(f"{file.parent.name}: {reason}")
        else:
            chosen[sidecar.compute_capability] = (file.parent, sidecar)
    if not chosen:
        raise EngineError(
            f"found no {precision} engines for a Triton server in {folder}"
            + "".join(f"; {reason}" for reason in refused)
            + f". `m2a build-engine --{precision} --flavour trt` builds them, on a machine with "
            "the server's GPU and its version of TensorRT"
        )
    versions = sorted({sidecar.version for _, sidecar in chosen.values()})
    if len(versions) > 1:
        raise EngineError(
            f"the engines in {folder} are of TensorRT {' and '.join(versions)}, expected one "
            "version, the server's; delete the others or build them again"
        )
    return Plans(
        version=versions[0],
        contents={
            capability: {name: read_engine(place, sidecar, name) for name in GRAPHS}
            for capability, (place, sidecar) in sorted(chosen.items())
        },
        sidecar=next(sidecar for _, sidecar in chosen.values()),
    )


def _reason_against(sidecar: Sidecar, bundle: Bundle, *, precision: str) -> str | None:
    if sidecar.flavour != "trt":
        return "built by TensorRT for RTX, which Triton has no backend for"
    if sidecar.os != "linux":
        return f"built for {sidecar.os}"
    if sidecar.precision != precision:
        return f"built in {sidecar.precision}"
    if stale := stale_graphs(sidecar, bundle):
        return f"the bundle's graphs changed since: {' and '.join(stale)}"
    return None


def memory_within_profiles(bundle: Bundle, sidecar: Sidecar) -> int:
    """Bytes for the graphs at a time with which no part outgrows the largest profile by its area.

    A part much longer than wide can still be longer than the profile's side; the server then
    refuses it.

    Raises:
        EngineError: a profile does not have the dimensions of its graph.
    """

    def largest(graph: str, dimension: str) -> int:
        profiles = sidecar.graphs[graph].profiles.values()
        sizes = [profile[dimension][2] for profile in profiles if dimension in profile]
        if not sizes:
            raise EngineError(
                f"{SIDECAR}: no profile of {graph!r} has the dimension {dimension}; build the "
                f"engines again: {sidecar.rebuild_command}"
            )
        return max(sizes)

    network = bundle.network
    memory: int = min(
        largest("mask", "H") * largest("mask", "W") * network.mask_bytes,
        largest("restore", "N0") * network.restore_bytes,
        largest("restore", "P2") * CELL * CELL * network.area_bytes,
    )
    return memory
