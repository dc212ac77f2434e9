"""Grows a checkpoint into a larger network that computes the same, to train on from there.

Net2Net (arXiv 1511.05641): what was learned is kept, and what is new changes nothing yet. New
blocks of the restorer, after those of their level, have a residual scale of zero; the old channels
of the mask predictor do not read the new ones. Its new blocks add next to nothing: they end in a
ReLU, which at zero itself would pass no gradient on. A wider restorer has each channel several
times; what reads a channel reads its copies in random shares that add up to one, so that each copy
has a gradient of its own and they part in training.

`--mask-mirrored` alone changes what is computed: the mask is predicted from the mirror image too.

    python recipes/grow.py checkpoints/small.safetensors -o grown.safetensors --blocks 1,2,2,2
    python recipes/grow.py checkpoints/small.safetensors -o base.safetensors \
        --width 32 --blocks 2,2,4,4 --mask-stem-width 32 --mask-widths 48,64,128,192 \
        --mask-blocks 1,2,2,3 --mask-mirrored
    python recipes/grow.py checkpoints/small.safetensors -o wider-mask.safetensors \
        --mask-stem-width 32 --mask-widths 48,64,96,128 --mask-blocks 1,1,1,2
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import torch
from torch import Tensor

from m2a.errors import M2AError
from m2a.models.checkpoint import mask_settings, open_checkpoint, save_checkpoint
from m2a.models.config import M2AENetConfig
from m2a.models.network import M2AENet

NEXT_TO_NOTHING = 1e-3
"""Scale of the norm of a new block of the mask predictor."""


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
@click.option("--width", type=int, help="Channels of the restorer at level 0: a multiple.")
@click.option("--blocks", type=FourIntegers(), help="Blocks of the restorer per level.")
@click.option("--mask-stem-width", type=int, help="Channels of the mask predictor at stride 2.")
@click.option("--mask-widths", type=FourIntegers(), help="Its channels at strides 4 to 32.")
@click.option("--mask-blocks", type=FourIntegers(), help="Its encoder's blocks at those strides.")
@click.option(
    "--mask-mirrored",
    is_flag=True,
    default=None,
    help="Predict the mask from the mirror image too. This changes the mask.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seeds what is new.")
def main(
    checkpoint: Path,
    output: Path,
    width: int | None,
    blocks: tuple[int, ...] | None,
    mask_stem_width: int | None,
    mask_widths: tuple[int, ...] | None,
    mask_blocks: tuple[int, ...] | None,
    mask_mirrored: bool | None,
    seed: int,
) -> None:
    """Reads the checkpoint, grows it, and writes the result with its history in the header."""
    asked = {
        "width": width,
        "blocks": blocks,
        "mask_stem_width": mask_stem_width,
        "mask_widths": mask_widths,
        "mask_blocks": mask_blocks,
        "mask_mirrored": mask_mirrored,
    }
    changes = {name: value for name, value in asked.items() if value is not None}
    try:
        network, header, _ = open_checkpoint(checkpoint)
        config = replace(network.config, **changes)
        torch.manual_seed(seed)
        grown = grow(network, config)
    except (M2AError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    told = mask_settings(header)  # it predicts the same, or nearly, in the mirror too
    told["training"] = [{"grown_from": header.get("training"), "changes": changes, "seed": seed}]
    save_checkpoint(grown, output, metadata=told)


def grow(network: M2AENet, config: M2AENetConfig) -> M2AENet:
    """Returns a network of a larger configuration that computes what `network` computes.

    Args:
        network: the network; left as it is.
        config: `network.config` with `blocks`, `mask_stem_width`, `mask_widths` or `mask_blocks` as
            large or larger, or `width` a multiple; `mask_mirrored` may differ, and is taken over.

    Returns:
        The grown network, in evaluation mode; what is new in it is random, from torch's generator.

    Raises:
        ValueError: the configuration is smaller somewhere, or differs in another field; or the
            width is no multiple.
    """
    if config.width != network.config.width:
        network = widen(network, config.width)
    grown = M2AENet(config)
    state = network.state_dict()
    for name, fresh in grown.state_dict().items():
        if name in state:
            fresh.copy_(embedded(state[name], fresh, name))
        elif name.startswith("restorer.") and name.endswith(".scale"):
            fresh.zero_()
        elif name.startswith("mask_predictor.") and name.endswith(".norm.weight"):
            fresh.fill_(NEXT_TO_NOTHING)
    if missing := sorted(set(state) - set(grown.state_dict())):
        raise ValueError(f"the larger network lacks {missing[0]} and {len(missing) - 1} more")
    return grown.eval()


def widen(network: M2AENet, width: int) -> M2AENet:
    """Returns a network whose restorer has every channel `width / network.config.width` times.

    The copies lie one channel after the other, then once more: c, c + C, …

    Raises:
        ValueError: the width is no multiple.
    """
    copies, rest = divmod(width, network.config.width)
    if rest or copies < 1:
        raise ValueError(
            f"width {network.config.width} cannot grow to {width}: expected a multiple"
        )
    wide = M2AENet(replace(network.config, width=width))
    wide.mask_predictor.load_state_dict(network.mask_predictor.state_dict())
    fresh = wide.restorer.state_dict()
    points = network.config.trajectory_points
    for name, old in network.restorer.state_dict().items():
        weight = old
        if not name.startswith(("head.", "motion.coefficients.")):  # no channels come out
            weight = old[_copied(len(old), copies, **_output_order(name))]
        if old.ndim == 4 and not name.startswith("stem."):  # it reads the image
            weight = _shared(weight, copies, groups=points if ".mix." in name else 1)
        fresh[name].copy_(weight)
    return wide.eval()


def _output_order(name: str) -> dict[str, int]:
    """How the outputs of a weight are ordered beside the channels; see `_copied`."""
    if ".conv." in name:  # both sides of the gate
        return {"groups": 2}
    return {"inner": 4} if name.startswith("up.") else {}  # the quadrants of a pixel shuffle


def _copied(size: int, copies: int, *, groups: int = 1, inner: int = 1) -> Tensor:
    """Old places of the new channels, ordered as (groups, channels, inner)."""
    return torch.arange(size).reshape(groups, -1, inner).repeat(1, copies, 1).flatten()


def _shared(weight: Tensor, copies: int, *, groups: int) -> Tensor:
    """Lets [C_out, groups · C, kh, kw] read the copies of its inputs in random shares."""
    outputs, inputs = weight.shape[:2]
    shares = torch.rand(outputs, groups, copies, inputs // groups)
    shares = (shares / shares.sum(dim=2, keepdim=True)).reshape(outputs, -1, 1, 1)
    return weight[:, _copied(inputs, copies, groups=groups)] * shares


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
