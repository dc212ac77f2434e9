"""Joins the restorer of one checkpoint and the mask predictor of another.

The two parts share no loss before the straight-through stage, so they may be trained side by side,
each by a recipe of its own:

    python recipes/join.py RESTORER.safetensors MASK.safetensors -o small.safetensors
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from m2a.errors import M2AError
from m2a.export.mask_defaults import mask_defaults
from m2a.models.checkpoint import mask_settings, open_checkpoint, save_checkpoint
from m2a.models.network import M2AENet

CHECKPOINT = click.Path(exists=True, dir_okay=False, path_type=Path)
SUFFIX = ".safetensors"


@click.command(help=__doc__)
@click.argument("restorer", type=CHECKPOINT)
@click.argument("mask_predictor", type=CHECKPOINT)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--threshold", type=float, help="For `m2a export`.  [default: the second's]")
@click.option("--dilate", type=int, help="For `m2a export`, pixels.  [default: the second's]")
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
    asked = {"threshold": threshold, "dilate": dilate}
    try:
        first, second = open_checkpoint(restorer), open_checkpoint(mask_predictor)
        mask_defaults(second.header, mask_predictor, **asked)  # refuses what export would
        told = mask_settings(second.header)
        told.update({name: value for name, value in asked.items() if value is not None})
        headers = {"restorer": first.header, "mask_predictor": second.header}
        told["training"] = {part: history(header, part) for part, header in headers.items()}
        save_checkpoint(join(first.network, second.network), output, metadata=told, half=half)
    except M2AError as error:
        raise click.ClickException(str(error)) from error


def history(header: Mapping[str, Any], part: str) -> Any:  # noqa: ANN401
    """What a checkpoint's header says of the training of one part; None where it says nothing."""
    told = header.get("training")
    return told[part] if isinstance(told, dict) and part in told else told


def join(network: M2AENet, other: M2AENet) -> M2AENet:
    """Returns the restorer of one network with the mask predictor of another."""
    # The parts share no field of the configuration: each brings its own.
    own = {name: getattr(network.config, name) for name in ("width", "blocks", "trajectory_points")}
    joined = M2AENet(replace(other.config, **own)).eval()
    joined.restorer.load_state_dict(network.restorer.state_dict())
    joined.mask_predictor.load_state_dict(other.mask_predictor.state_dict())
    return joined


if __name__ == "__main__":
    main()
