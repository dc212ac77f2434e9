"""Joins the restorer of one checkpoint and the mask predictor of another.

The two parts share no loss before the straight-through stage, so they may be trained side by side,
each by a recipe of its own:

    python recipes/join.py RESTORER.safetensors MASK.safetensors -o small.safetensors
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click
from safetensors import safe_open

from m2a.errors import M2AError
from m2a.models.checkpoint import HEADER, load_checkpoint, save_checkpoint
from m2a.models.network import M2AENet

CHECKPOINT = click.Path(exists=True, dir_okay=False, path_type=Path)
SUFFIX = ".safetensors"


@click.command(help=__doc__)
@click.argument("restorer", type=CHECKPOINT)
@click.argument("mask_predictor", type=CHECKPOINT)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--threshold", type=click.FloatRange(0, 1, min_open=True, max_open=True))
@click.option("--dilate", type=click.IntRange(0), help="Both are what `m2a export` then takes.")
@click.option("--half", is_flag=True, help="Round the weights to FP16, for half the size.")
def main(
    restorer: Path,
    mask_predictor: Path,
    output: Path,
    *,
    threshold: float | None,
    dilate: int | None,
    half: bool,
) -> None:
    """Reads both, joins them, and writes the result with both histories in its header."""
    for path in (restorer, mask_predictor, output):
        if path.suffix != SUFFIX:
            raise click.ClickException(f"{path}: expected a {SUFFIX} file of m2a's trainer")
    try:
        network, other = load_checkpoint(restorer), load_checkpoint(mask_predictor)
    except M2AError as error:
        raise click.ClickException(str(error)) from error
    # The parts share no field of the configuration: each brings its own.
    own = {name: getattr(network.config, name) for name in ("width", "blocks", "trajectory_points")}
    joined = M2AENet(replace(other.config, **own)).eval()
    joined.restorer.load_state_dict(network.restorer.state_dict())
    joined.mask_predictor.load_state_dict(other.mask_predictor.state_dict())
    history = {"restorer": history_of(restorer), "mask_predictor": history_of(mask_predictor)}
    chosen = {"threshold": threshold, "dilate": dilate}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    save_checkpoint(joined, output, metadata={"training": history, **chosen}, half=half)


def history_of(path: Path) -> object:
    """Returns what a checkpoint's header tells of its training."""
    with safe_open(path, framework="pt") as file:
        header = file.metadata() or {}
    if HEADER in header:
        return json.loads(header[HEADER]).get("training")
    return json.loads(header.get("training", "null"))  # an older form of the header


if __name__ == "__main__":
    main()
