"""`m2a inspect`: what is in a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from m2a.commands.options import EXISTING_OR_NOT, chosen_bundle, json_option, print_json
from m2a.runtime.bundle import GRAPHS, Bundle


@click.command("inspect")
@click.argument("bundle", type=EXISTING_OR_NOT, required=False)
@json_option
def command(bundle: Path | None, as_json: bool) -> None:
    """Tell in plain words what BUNDLE holds, and check its files against the manifest.

    \b
    Example:
      m2a inspect m2a-bundle
    """
    found = chosen_bundle(bundle)
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
