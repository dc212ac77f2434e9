"""`m2a inspect`: what is in a bundle, and whether an engine will run here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from m2a.commands.options import EXISTING_OR_NOT, chosen_bundle, json_option, print_json
from m2a.errors import BundleError, EngineError, on_one_line
from m2a.runtime.bundle import GRAPHS, MANIFEST, PACKAGED, Bundle, open_bundle

if TYPE_CHECKING:
    from m2a.engines.sidecar import Sidecar


@click.command("inspect")
@click.argument("path", type=EXISTING_OR_NOT, required=False)
@json_option
@click.pass_context
def command(ctx: click.Context, path: Path | None, as_json: bool) -> None:
    """Tell in plain words what the bundle or the engine at PATH is.

    A bundle's files are checked against its manifest. An engine is not loaded: what lies beside it
    in engine.json tells what it is, whether it will run here (exit code 1 if not), and the command
    that builds it again.

    \b
    Example:
      m2a inspect m2a-bundle
      m2a inspect m2a-bundle/engines/*/mask.engine
    """
    if path is not None and _is_engine(path):
        if not _inspect_engine(path, as_json=as_json):
            ctx.exit(1)
        return
    found = chosen_bundle(path)
    sizes = {
        f"{precision}/{name}": len(found.graph(name, precision=precision))
        for precision in found.precisions
        for name in GRAPHS
    }
    found.reference()
    if as_json:
        print_json({"bundle": str(found.path), **found.manifest})
        return
    _print(found, sizes)


def _is_engine(path: Path) -> bool:
    from m2a.engines.sidecar import SIDECAR, SUFFIX

    return path.suffix == SUFFIX or path.name == SIDECAR or (path / SIDECAR).is_file()


def _inspect_engine(path: Path, *, as_json: bool) -> bool:
    """Describes engines; returns whether nothing is known against running them here."""
    from m2a.engines.machine import this_machine
    from m2a.engines.sidecar import describe_precision, read_sidecar, reasons_against

    sidecar = read_sidecar(path)
    folder = path if path.is_dir() else path.parent
    bundle, faults = None, []
    try:
        bundle = _bundle_of(folder)
    except BundleError as error:
        faults = [str(error)]
    reasons = [*reasons_against(sidecar, this_machine(), bundle), *faults]
    reasons += [fault for name in GRAPHS if (fault := _fault_of(folder, sidecar, name))]
    if as_json:
        print_json(
            {
                "engine": str(path),
                **json.loads(sidecar.serialise()),
                "runs_here": not reasons,
                "reasons_against": reasons,
                "rebuild_command": sidecar.rebuild_command,
            }
        )
        return not reasons
    maker = "TensorRT for RTX" if sidecar.flavour == "rtx" else "TensorRT"
    built = f"built on {sidecar.gpu}" if sidecar.gpu else "built ahead of time"
    lines = [
        f"{folder}: engines by {maker} {sidecar.version}",
        f"  for compute capability {sidecar.compute_capability}, {built}",
        f"  for {sidecar.os} on {sidecar.arch}",
        f"  {describe_precision(sidecar)}",
        *(
            f"  {graph.path:16} {graph.bytes / 1e6:6.1f} MB, profiles {', '.join(graph.profiles)}"
            for graph in sidecar.graphs.values()
        ),
    ]
    if reasons:
        lines += ["It will not run here:", *(f"  {reason}" for reason in reasons)]
        lines.append(f"Build it again where it is to run: {sidecar.rebuild_command}")
    else:
        lines.append("Nothing is known against running it here.")
    for line in lines:
        click.echo(on_one_line(line))
    return not reasons


def _fault_of(folder: Path, sidecar: Sidecar, graph: str) -> str:
    """What is wrong with an engine's file; empty where it is the one that was built."""
    from m2a.engines.sidecar import read_engine

    try:
        read_engine(folder, sidecar, graph)
    except EngineError as error:
        return str(error)
    return ""


def _bundle_of(folder: Path) -> Bundle | None:
    """The bundle whose engines these are; None where they lie elsewhere."""
    from m2a.engines.sidecar import ENGINES

    place = folder.resolve().parent
    if place.name != ENGINES:
        return None
    if (place.parent / MANIFEST).is_file():
        return open_bundle(place.parent)
    return open_bundle(PACKAGED) if _in_cache(place) else None


def _in_cache(place: Path) -> bool:
    from m2a.cache import cache_folder

    try:
        return place.parent == cache_folder().resolve()
    except RuntimeError:
        return False


def _print(bundle: Bundle, sizes: Mapping[str, int]) -> None:
    model = _section(bundle.manifest, "model")
    click.echo(f"{bundle.path}: M2AENet, {model.get('name', 'unnamed')}")
    checkpoint = _section(model, "checkpoint")
    if checkpoint:
        digest = str(checkpoint.get("sha256", ""))[:16]
        click.echo(f"  exported from {checkpoint.get('name')} (SHA-256 {digest}…)")
    cost = _section(model, "flop_per_pixel")
    for part, count in _section(model, "parameters").items():
        flop = cost.get(part)
        if isinstance(count, int) and isinstance(flop, (int, float)):
            kilo = flop / 1000
            click.echo(f"  {part:8} {count:>10,} parameters, {kilo:.1f} kFLOP per pixel it runs on")
    if bundle.network.mask_mirrored:
        click.echo("  the mask is predicted from the picture and its mirror image")
    click.echo(
        f"  a pixel is restored where its blur probability is at least {bundle.threshold:g}, "
        f"and {bundle.dilate} pixels around"
    )
    click.echo(f"Graphs ({', '.join(bundle.precisions)}), as exported:")
    for name, size in sizes.items():
        click.echo(f"  {name:14} {size / 1e6:.2f} MB")
    for title, key in (("Worst parity error per stage", "parity"), ("Measured", "metrics")):
        entries = _section(bundle.manifest, key)
        if entries:
            click.echo(f"{title}:")
        for name, value in entries.items():
            click.echo(f"  {name:32} {value}")
    versions = _section(bundle.manifest, "versions")
    click.echo("Made with " + ", ".join(f"{name} {found}" for name, found in versions.items()))


def _section(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    section = content.get(key)
    return section if isinstance(section, dict) else {}
