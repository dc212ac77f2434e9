"""`m2a synth`: photos with synthetic local motion blur."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from m2a.commands.options import EXISTING_OR_NOT
from m2a.extras import needing_extra


@click.command("synth")
@click.argument("photos", type=EXISTING_OR_NOT)
@click.option("-o", "--output", type=EXISTING_OR_NOT, required=True, help="Folder to write.")
@click.option("--count", type=click.IntRange(1), default=100, show_default=True)
@click.option("--size", type=click.IntRange(32), default=256, show_default=True, help="Pixels.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--only", multiple=True, metavar="NAME", help="Take this photo; repeatable.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
def command(
    photos: Path,
    output: Path,
    count: int,
    size: int,
    seed: int,
    only: tuple[str, ...],
    overwrite: bool,
) -> None:
    """Render crops of the sharp photographs in PHOTOS with things in motion.

    Writes blurred/, sharp/ (the scene at mid-exposure), mask/, visible/ (where the blur shows),
    motion/ (the true trajectories) and a contact sheet to look at.

    \b
    Example:
      m2a synth photos -o known --count 100 --seed 1
    """
    with needing_extra("train", only=["opencv-python-headless"], purpose="Rendering blur"):
        from m2a.training.protocol import write_samples

    with click.progressbar(length=count, label="Rendering", file=sys.stderr) as bar:
        sheet = write_samples(
            photos,
            output,
            count=count,
            seed=seed,
            only=only,
            size=size,
            overwrite=overwrite,
            progress=lambda done: bar.update(done - bar.pos),
        )
    click.echo(f"Look at {sheet}", err=True)
