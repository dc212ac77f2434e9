"""`m2a build-engine`: TensorRT engines from a bundle's graphs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from m2a.cache import kept_at
from m2a.commands.options import (
    EXISTING_OR_NOT,
    bundle_option,
    chosen_bundle,
    json_option,
    print_json,
)
from m2a.errors import MissingDependencyError, UsageError, install_command
from m2a.extras import is_installed, missing_packages
from m2a.machine.installed import TENSORRT

if TYPE_CHECKING:
    from m2a.commands.progress import Bar
    from m2a.engines.machine import Machine
    from m2a.engines.sidecar import Sidecar
    from m2a.runtime.bundle import Bundle

_MIB = 1 << 20


@click.command("build-engine")
@click.option("--fp32", "precision", flag_value="fp32", default=True, help="FP32, without TF32.")
@click.option(
    "--fp16",
    "precision",
    flag_value="fp16",
    help="FP16; its graphs are made where the bundle does not hold them.",
)
@click.option(
    "--int8",
    "precision",
    flag_value="int8",
    help="INT8; the bundle must hold its graphs (`m2a calibrate`), or --calibration makes them.",
)
@click.option(
    "--calibration",
    type=EXISTING_OR_NOT,
    metavar="PHOTOS",
    help="A folder of blurred photos: calibrates and judges the INT8 or FP16 graphs first, as "
    "`m2a calibrate` does.",
)
@bundle_option
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="smXX",
    help="A compute capability to build for ahead of time, without such a GPU (TensorRT for RTX); "
    "may be given several times. [default: the GPU at hand]",
)
@click.option(
    "--flavour",
    type=click.Choice(["trt", "rtx"]),
    help="TensorRT or TensorRT for RTX. [default: the first that is installed; with --target, "
    "one that builds ahead of time]",
)
@click.option(
    "--workspace",
    type=click.IntRange(min=1),
    metavar="MiB",
    help="Scratch memory that a layer may take. [default: left to TensorRT]",
)
@json_option
def command(
    precision: str,
    calibration: Path | None,
    bundle: Path | None,
    targets: tuple[str, ...],
    flavour: str | None,
    workspace: int | None,
    as_json: bool,
) -> None:
    """Build TensorRT engines from a bundle, with an engine.json that tells what they are.

    They lie in the bundle's folder `engines`; those of the packaged model in the user's cache.

    \b
    Example:
      m2a build-engine --fp16
      m2a build-engine --fp16 --target sm86 --target sm89
      m2a build-engine --int8 --calibration photos --target sm86
    """
    _check_calibration(bundle, precision, calibration)
    _check_packages(bundle, precision, calibration, flavour)
    from m2a.engines import build
    from m2a.engines.machine import this_machine
    from m2a.engines.selection import engines_folder
    from m2a.engines.sidecar import read_sidecar
    from m2a.engines.tensorrt import find_tensorrt
    from m2a.engines.timing_cache import TimingCacheFile

    tensorrt = find_tensorrt(flavour, ahead_of_time=bool(targets))
    machine = this_machine()
    # All refusals first: what follows takes minutes, and changes the bundle.
    capabilities = [
        build.resolve_target(target, machine, tensorrt)[0] for target in targets or (None,)
    ]
    found = chosen_bundle(bundle)
    folder = engines_folder(found)
    graphs = _graphs(found, precision, calibration)
    for target, capability in zip(targets or (None,), capabilities, strict=True):
        order = build.Order(
            precision=precision,
            graphs=graphs,
            sources={name: stored.sha256 for name, stored in found.graphs["fp32"].items()},
            target=target,
            workspace=None if workspace is None else workspace * _MIB,
            rebuild=_rebuild(precision, found, calibration, target, tensorrt.flavour, workspace),
        )
        cache = kept_at("timings", f"{tensorrt.flavour}{tensorrt.version}-{capability}.cache")
        with Phases() as phases:
            built = build.build_engines(
                order,
                tensorrt,
                machine,
                folder,
                timings=None if cache is None else TimingCacheFile(cache),
                report=phases.report,
            )
        _tell(built, read_sidecar(built), machine, as_json=as_json)


_WHICH = (
    f"Install in the folder of m2a either {install_command('tensorrt')}: TensorRT, which builds "
    "for the GPU at hand and runs there (pycuda, which comes with it, needs the CUDA toolkit); "
    f"or {install_command('tensorrt-rtx')}: TensorRT for RTX, which builds for consumer cards, "
    "also without such a GPU (--target). On a Jetson TensorRT comes with JetPack: "
    "pip install filelock onnx"
)


def _check_calibration(bundle: Path | None, precision: str, calibration: Path | None) -> None:
    """Refuses what cannot be calibrated, before any work.

    Raises:
        UsageError: INT8 without calibrated graphs or photos, or photos for FP32.
        BundleError: as `find_bundle`.
    """
    from m2a.runtime.bundle import find_bundle

    if calibration is not None and precision == "fp32":
        raise UsageError("--calibration: found it with --fp32, expected --int8 or --fp16")
    found = find_bundle(bundle, working_directory=True)
    if precision == "int8" and calibration is None and precision not in found.graphs:
        added = "" if found.packaged else "`m2a calibrate PHOTOS` adds them, or "
        raise UsageError(
            f"--int8: the bundle {found.path} holds no INT8 graphs; {added}"
            "name a folder of blurred photos with --calibration PHOTOS"
        )


def _check_packages(
    bundle: Path | None, precision: str, calibration: Path | None, flavour: str | None
) -> None:
    """Names all that is missing, before any work.

    Raises:
        MissingDependencyError: TensorRT, or what building needs beside it, is not installed.
        BundleError: as `find_bundle`.
    """
    from m2a.runtime.bundle import find_bundle

    wanted = [TENSORRT[name] for name in ([flavour] if flavour else TENSORRT)]
    missing = missing_packages("tensorrt", only=["filelock", "onnx"])
    if not any(is_installed(one.module) for one in wanted):
        missing.append(" or ".join(one.distributions[0] for one in wanted))
    held = find_bundle(bundle, working_directory=True).graphs
    if calibration is not None or precision not in held:
        missing += missing_packages("cpu")  # judges the graphs that are to be made
    if missing:
        raise MissingDependencyError(
            *missing, extra="tensorrt", purpose="Building an engine", install=_WHICH
        )


def _graphs(bundle: Bundle, precision: str, calibration: Path | None) -> Mapping[str, bytes]:
    """The bundle's graphs of a precision.

    With photos they are made, and kept, as FP16 ones are where they are missing.
    """
    from m2a.runtime.bundle import GRAPHS

    if calibration is None and precision in bundle.precisions:
        return {name: bundle.graph(name, precision=precision) for name in GRAPHS}
    from m2a.calibration import add_variant, make_float16
    from m2a.commands.calibrate_command import calibrated, report_of

    if calibration is None:
        variant = make_float16(bundle, progress=lambda step: click.echo(f"{step} …", err=True))
    else:
        variant = calibrated(bundle, calibration, precision=precision)
        click.echo("\n".join(report_of(variant)), err=True)
    if not bundle.packaged:
        add_variant(bundle, variant)
    return variant.graphs


def _rebuild(
    precision: str,
    bundle: Bundle,
    calibration: Path | None,
    target: str | None,
    flavour: str,
    workspace: int | None,
) -> tuple[str, ...]:
    """The command that builds the same engines again, from whatever directory.

    The bundle keeps the graphs that photos made, except for the packaged one.
    """
    from m2a.engines.sidecar import REBUILD

    words = [*REBUILD, f"--{precision}", "--bundle", str(bundle.path.resolve())]
    if calibration is not None and bundle.packaged:
        words += ["--calibration", str(calibration.resolve())]
    if target is not None:
        words += ["--target", target]
    words += ["--flavour", flavour]
    if workspace is not None:
        words += ["--workspace", str(workspace)]
    return tuple(words)


def _tell(folder: Path, sidecar: Sidecar, machine: Machine, *, as_json: bool) -> None:
    from m2a.engines.sidecar import describe_precision, reasons_against

    reasons = reasons_against(sidecar, machine)
    if as_json:
        print_json(
            {
                "folder": str(folder),
                "precision": sidecar.precision,
                "compute_capability": sidecar.compute_capability,
                "tensorrt": {"flavour": sidecar.flavour, "version": sidecar.version},
                "bytes": {name: graph.bytes for name, graph in sidecar.graphs.items()},
                "seconds": {name: graph.seconds for name, graph in sidecar.graphs.items()},
                "runs_here": not reasons,
                "reasons_against": reasons,
            }
        )
        return
    click.echo(f"{folder}")
    click.echo(f"  {describe_precision(sidecar)}")
    for graph in sidecar.graphs.values():
        click.echo(f"  {graph.path:16} {graph.bytes / 1e6:6.1f} MB, built in {graph.seconds:.1f} s")
    for reason in reasons:
        click.echo(f"  will not run here: {reason}")
    click.echo(f"Next: m2a inspect {folder / next(iter(sidecar.graphs.values())).path}")


class Phases(ExitStack):
    """A bar for each phase of each build, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self._phase: tuple[str, str] | None = None
        self._bar: Bar | None = None

    def report(self, graph: str, phase: str, done: int, steps: int) -> None:
        """Shows the steps done of a phase."""
        from m2a.commands.progress import progress_bar

        if (graph, phase) != self._phase:
            self.close()
            self._phase = (graph, phase)
            self._bar = self.enter_context(progress_bar(steps, f"{graph}: {phase}"))
        if self._bar is not None:
            self._bar.at(done)
