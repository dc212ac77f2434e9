"""Grows a checkpoint into a larger network that computes the same, to train on from there.

Net2Net (arXiv 1511.05641): what was learned is kept, and what is new begins without effect. New
blocks of the restorer, after those of their level, have a residual scale of zero; the old channels
of the mask predictor do not read the new ones.

    python recipes/grow.py checkpoints/small.safetensors -o grown.safetensors --blocks 1,2,2,2
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import torch
from join import history_of
from torch import Tensor

from m2a.errors import M2AError
from m2a.models.checkpoint import load_checkpoint, save_checkpoint
from m2a.models.config import M2AENetConfig
from m2a.models.network import M2AENet


class FourIntegers(click.ParamType):
    """Four integers with commas between them."""

    name = "N,N,N,N"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Parses the text."""
        try:
            return tuple(int(number) for number in str(value).split(","))
        except ValueError:
            self.fail(f"expected four integers such as 1,2,2,2, found {value!r}", param, ctx)


@click.command(help=__doc__)
@click.argument("checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--blocks", type=FourIntegers(), help="Blocks of the restorer per level.")
@click.option("--mask-stem-width", type=int, help="Channels of the mask predictor at stride 2.")
@click.option("--mask-widths", type=FourIntegers(), help="Its channels at strides 4 to 32.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seeds what is new.")
def main(
    checkpoint: Path,
    output: Path,
    blocks: tuple[int, ...] | None,
    mask_stem_width: int | None,
    mask_widths: tuple[int, ...] | None,
    seed: int,
) -> None:
    """Reads the checkpoint, grows it, and writes the result with its history in the header."""
    asked = {"blocks": blocks, "mask_stem_width": mask_stem_width, "mask_widths": mask_widths}
    changes = {name: value for name, value in asked.items() if value is not None}
    try:
        network = load_checkpoint(checkpoint)
        config = replace(network.config, **changes)
        torch.manual_seed(seed)
        grown = grow(network, config)
    except (M2AError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    history = [{"grown_from": history_of(checkpoint), "seed": seed}]
    save_checkpoint(grown, output, metadata={"training": history})


def grow(network: M2AENet, config: M2AENetConfig) -> M2AENet:
    """Returns a network of a larger configuration that computes what `network` computes.

    Args:
        network: the network; left as it is.
        config: `network.config` with `blocks`, `mask_stem_width` or `mask_widths` as large or
            larger.

    Returns:
        The grown network, in evaluation mode; what is new in it is random, from torch's generator.

    Raises:
        ValueError: the configuration is smaller somewhere, or differs in another field.
    """
    grown = M2AENet(config)
    state = network.state_dict()
    for name, fresh in grown.state_dict().items():
        if name in state:
            fresh.copy_(embedded(state[name], fresh, name))
        elif name.startswith("restorer.") and name.endswith(".scale"):
            fresh.zero_()
        elif not name.startswith("restorer."):
            raise ValueError(f"{name}: blocks of the mask predictor cannot be added without effect")
    if missing := sorted(set(state) - set(grown.state_dict())):
        raise ValueError(f"the larger network lacks {missing[0]} and {len(missing) - 1} more")
    return grown.eval()


def embedded(old: Tensor, fresh: Tensor, name: str) -> Tensor:
    """Returns `fresh` with `old` as its first outputs, which read none of the new inputs."""
    if old.shape == fresh.shape:
        return old
    smaller = any(was > now for was, now in zip(old.shape, fresh.shape, strict=True))
    if smaller or not name.startswith("mask_predictor."):
        raise ValueError(f"{name} {tuple(old.shape)} cannot grow to {tuple(fresh.shape)}")
    out = fresh.clone()
    out[: len(old)] = 0
    out[tuple(slice(size) for size in old.shape)] = old
    return out


if __name__ == "__main__":
    main()
