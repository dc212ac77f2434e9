"""Leaves one thing out of the training at a time, and measures what that costs.

The restorer alone, in short trainings from the same random weights; then a last stage of both parts
from trained weights, apart and end to end:

\b
    python recipes/ablations.py restorer recipes/ablations.toml --photos photos -o runs/ablations
    python recipes/ablations.py last-stage recipes/last-stage.toml --photos photos \\
        --init checkpoints/small.safetensors -o runs/last-stage
    python recipes/ablations.py table -o runs/ablations

A training that was stopped goes on where it was, and one that is done is kept. The first line of a
table is the one that the others are compared with, crop by crop.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import click
import torch

from m2a.errors import M2AError
from m2a.evaluation.metrics import overlap
from m2a.files import atomic_write
from m2a.models.checkpoint import load_checkpoint, save_checkpoint
from m2a.models.network import M2AENet
from m2a.models.reparameterize import gathered_restorer
from m2a.runtime.sites import dilate
from m2a.training.comparison import (
    held_out_samples,
    markdown_table,
    mean_and_error,
    train_beside,
    under_true_masks,
)
from m2a.training.config import TrainingConfig, read_recipe
from m2a.training.optimizer import names_within
from m2a.training.samples import Sample
from m2a.training.validation import predicted_mask, psnr_gain, restore

FOLDER = click.Path(file_okay=False, path_type=Path)
CHECKPOINT = click.Path(exists=True, dir_okay=False, path_type=Path)
RECIPE = click.Path(exists=True, dir_okay=False, path_type=Path)
MEASURED = "measured.json"
CROPS = 100
"""Held-out crops that every line is measured on."""

THRESHOLD, DILATION = 0.2, 8
"""How predicted masks are used: as in the packaged bundle when the table in the model card was
measured; it widens them by 4 pixels now."""

COEFFICIENTS = "restorer.motion.coefficients"
"""Where they are zero the displacements are: what is left mixes a site's own features alone."""

RESTORER_LINES: Mapping[str, Mapping[str, Any]] = {
    "trajectory-loss": {},
    "no-motion-analyzer": {"frozen": (COEFFICIENTS,), "trajectory_weight": 0.0},
    "no-motion-loss": {"trajectory_weight": 0.0},
    "reblur-loss": {"trajectory_weight": 0.0, "reblur_weight": 3.0},
    "both-motion-losses": {"reblur_weight": 3.0},
    # An absolute error pulls about a fourteenth as hard: the trajectories shall weigh as before.
    "charbonnier": {"reconstruction": "charbonnier", "trajectory_weight": 0.015},
    "charbonnier-frequency": {
        "reconstruction": "charbonnier",
        "trajectory_weight": 0.015,
        "frequency_weight": 0.5,
    },
}
"""In what each training differs from the recipe."""

LAST_STAGES: Mapping[str, Mapping[str, Any]] = {
    "parts-apart": {"straight_through": False},
    "straight-through": {"straight_through": True},
}
START = "start"
"""The line of the weights that the last stages begin from."""


@click.group(help=__doc__)
def main() -> None:
    """The steps."""


def shared_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds what both trainings are given."""
    output = click.option("-o", "--output", type=FOLDER, required=True, help="Folder of the runs.")
    photos = click.option("--photos", type=FOLDER, required=True, help="Sharp photographs.")
    return click.argument("recipe", type=RECIPE)(photos(output(command)))


@main.command()
@shared_options
def restorer(recipe: Path, photos: Path, output: Path) -> None:
    """Trains the restorer by RECIPE and its variations, from the same random weights."""
    try:
        config = read_recipe(recipe)
        samples = held_out_samples(config, photos, count=CROPS)
        for name, changes in RESTORER_LINES.items():
            line = replace(config, **changes)
            init = begun(line, output / f"random-{name}.safetensors")
            record_line(line, output / name, photos=photos, init=init, samples=samples)
    except (M2AError, ValueError) as error:
        raise click.ClickException(str(error)) from error


@main.command("last-stage")
@shared_options
@click.option("--init", type=CHECKPOINT, required=True, help="The weights to begin from.")
def last_stage(recipe: Path, photos: Path, output: Path, init: Path) -> None:
    """Trains both parts on by RECIPE, apart and end to end, and measures the weights before."""
    try:
        config = read_recipe(recipe)
        samples = held_out_samples(config, photos, count=CROPS)
        for name, changes in LAST_STAGES.items():
            line = replace(config, **changes)
            record_line(line, output / name, photos=photos, init=init, samples=samples)
        if not (output / START / MEASURED).exists():
            write_measured(load_checkpoint(init), output / START, samples, steps=0, masks=True)
    except (M2AError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def begun(config: TrainingConfig, path: Path) -> Path:
    """Writes the random weights of the recipe's seed, where what is frozen is zero."""
    torch.manual_seed(config.seed)
    network = M2AENet(config.network).eval()
    weights = network.state_dict()
    for module in config.frozen:
        for name in names_within(module, weights, field="frozen"):
            weights[name].zero_()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(network, path)
    return path


def record_line(
    config: TrainingConfig, run: Path, *, photos: Path, init: Path, samples: Sequence[Sample]
) -> None:
    """Trains one line and measures it, unless that is done."""
    if (run / MEASURED).exists():
        return
    click.echo(run.name)
    network = train_beside(config, photographs=photos, run=run, init=init, report=click.echo)
    masks = "mask_predictor" in config.parts
    write_measured(network, run, samples, steps=config.steps, masks=masks)


def write_measured(
    network: M2AENet, run: Path, samples: Sequence[Sample], *, steps: int, masks: bool
) -> None:
    """Writes what a network reaches on each sample; under predicted masks too if `masks`."""
    gains, angles = under_true_masks(network, samples)
    record = {"steps": steps, "gains": gains, "angles": [a for a in angles if a is not None]}
    if masks:
        record |= under_predicted_masks(network, samples)
    run.mkdir(parents=True, exist_ok=True)
    atomic_write(run / MEASURED, json.dumps(record, indent=2).encode(), overwrite=True)


def under_predicted_masks(network: M2AENet, samples: Sequence[Sample]) -> dict[str, list[float]]:
    """Gain and IoU of every sample where the network finds the mask itself."""
    gathered = gathered_restorer(network)
    gains, ious = [], []
    for sample in samples:
        found = predicted_mask(network, sample, threshold=THRESHOLD)
        restored = restore(gathered, sample, dilate(found, DILATION))
        gains.append(psnr_gain(sample, restored.picture))
        ious.append(overlap(found, sample.mask).iou)
    return {"predicted_gains": gains, "ious": ious}


TITLES = (
    "line",
    "steps",
    "gain under true masks",
    "against the first line",
    "angle error",
    "gain under predicted masks",
    "against the first line",
    "IoU",
)


@main.command()
@click.option("-o", "--output", type=FOLDER, required=True, help="Folder of the runs.")
def table(output: Path) -> None:
    """Prints the table of what was trained, and writes ablations.md."""
    records = {
        name: json.loads((output / name / MEASURED).read_text())
        for name in (*RESTORER_LINES, *LAST_STAGES, START)
        if (output / name / MEASURED).exists()
    }
    if not records:
        raise click.ClickException(
            f"{output}: found no {MEASURED}; run `restorer` or `last-stage` first"
        )
    first = next(iter(records.values()))
    rows = [cells_of(name, record, first) for name, record in records.items()]
    text = markdown_table(TITLES, rows)
    atomic_write(output / "ablations.md", text.encode(), overwrite=True)
    click.echo(text, nl=False)


def cells_of(name: str, record: Mapping[str, Any], first: Mapping[str, Any]) -> list[str]:
    """The cells of one line of the Markdown table."""
    angles = record["angles"]
    return [
        name,
        str(record["steps"]),
        *compared(record, first, "gains"),
        f"{fmean(angles):.1f}°" if angles else "",
        *(compared(record, first, "predicted_gains") if "ious" in record else ["", ""]),
        f"{fmean(record['ious']):.3f}" if "ious" in record else "",
    ]


def compared(record: Mapping[str, Any], first: Mapping[str, Any], key: str) -> list[str]:
    """The mean over the crops and that of the differences to the first line, with errors, dB."""
    differences = [a - b for a, b in zip(record[key], first[key], strict=True)]
    own, other = mean_and_error(record[key]), mean_and_error(differences)
    difference = "" if record is first else f"{other[0]:+.3f} ± {other[1]:.3f} dB"
    return [f"{own[0]:+.3f} ± {own[1]:.3f} dB", difference]


if __name__ == "__main__":
    main()
