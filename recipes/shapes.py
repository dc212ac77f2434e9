"""Compares shapes of the restorer: what each costs, and what the same short training makes of it.

A shape is written as the fields of `M2AENetConfig` in which it differs from the recipe's network:

\b
    python recipes/shapes.py train recipes/shapes.toml 'blocks=[1,1,2,2]' 'blocks=[0,1,4,4]' \\
        --photos photos -o runs/shapes
    python recipes/shapes.py time -o runs/shapes
    python recipes/shapes.py table -o runs/shapes

A training that was stopped goes on where it was, one that is done is kept, and further shapes may
be added. `time` wants the machine for itself.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import click
import numpy as np

from m2a.benchmark.profile import gather_share, profile_nodes
from m2a.benchmark.scenes import blob_mask
from m2a.benchmark.timing import in_turns, seconds_of
from m2a.errors import M2AError
from m2a.export.trace import trace_restore
from m2a.files import atomic_write
from m2a.graphs.sliced_gathers import slice_gathers
from m2a.models.config import M2AENetConfig
from m2a.models.cost import count_cost
from m2a.models.network import M2AENet
from m2a.runtime.backends import DEFAULT_BACKEND, open_runners
from m2a.runtime.sites import PATCH, build_sites, pad_mask
from m2a.training.comparison import (
    held_out_samples,
    markdown_table,
    train_beside,
    under_true_masks,
)
from m2a.training.config import TrainingConfig, read_recipe, reshaped, tomllib
from m2a.training.samples import Sample

FOLDER = click.Path(file_okay=False, path_type=Path)
TRAINED, TIMED, GRAPH = "trained.json", "times.json", "restore.onnx"
PICTURE, COVERAGE = (1436, 2152), 0.1
CROPS = 100
"""Held-out crops that the gain is measured on."""

LENGTHS = (0.0, 8.0, 16.0, 30.0, float("inf"))
"""Blur lengths in pixels, between which the gain is stated."""


@click.group(help=__doc__)
def main() -> None:
    """The three steps."""


@main.command()
@click.argument("recipe", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("shapes", nargs=-1, required=True)
@click.option("--photos", type=FOLDER, required=True, help="Sharp photographs.")
@click.option("-o", "--output", type=FOLDER, required=True, help="Folder of the runs.")
def train(recipe: Path, shapes: Sequence[str], photos: Path, output: Path) -> None:
    """Trains each shape by RECIPE and measures it on held-out crops."""
    try:
        configs = recipes_of(recipe, shapes)
        samples = held_out_samples(configs[0], photos, count=CROPS)
        for each in configs:
            run = output / name_of(each.network)
            if (run / TRAINED).exists():
                continue
            network = train_beside(each, photographs=photos, run=run, report=click.echo)
            record = measured(network, samples, steps=each.steps)
            graph = trace_restore(network).SerializeToString()
            atomic_write(run / GRAPH, graph, overwrite=True)
            atomic_write(run / TRAINED, json.dumps(record, indent=2).encode(), overwrite=True)
            by_length = ", ".join(gain_by_length(record))
            click.echo(f"{run.name}: {record['gain']:+.2f} dB ({by_length})")
    except (M2AError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def recipes_of(recipe: Path, shapes: Sequence[str]) -> list[TrainingConfig]:
    """The recipe with each of the shapes in the place of its own."""
    config = read_recipe(recipe)
    return [reshaped(config, tomllib.loads(f"shape = {{{text}}}")["shape"]) for text in shapes]


def name_of(network: M2AENetConfig) -> str:
    """A shape's name: width, blocks, T."""
    blocks = "-".join(map(str, network.blocks))
    return f"w{network.width}-b{blocks}-t{network.trajectory_points}"


def measured(network: M2AENet, samples: Sequence[Sample], *, steps: int) -> dict[str, Any]:
    """What a trained network gains under the true masks."""
    gains, _ = under_true_masks(network, samples)
    lengths = [blur_length(sample) for sample in samples]
    return {
        "shape": network.config.to_json(),
        "steps": steps,
        "gain": fmean(gains),
        "gains": gains,
        "lengths": lengths,
    }


def gain_by_length(record: Mapping[str, Any]) -> list[str]:
    """The mean gain between each two of `LENGTHS`, dB; `-` where there is no such crop."""
    pairs = list(zip(record["gains"], record["lengths"], strict=True))
    means = []
    for low, high in itertools.pairwise(LENGTHS):
        chosen = [gain for gain, length in pairs if low <= length < high]
        means.append(f"{fmean(chosen):+.2f}" if chosen else "-")
    return means


def blur_length(sample: Sample) -> float:
    """Median length of the trajectories, |d(1) - d(-1)| = 2 |a|, pixels."""
    return float(np.median(2 * np.linalg.norm(sample.trajectory[sample.mask][:, :2], axis=1)))


@main.command("time")
@click.option("-o", "--output", type=FOLDER, required=True, help="Folder of the runs.")
@click.option(
    "--repeats", default=9, show_default=True, help="Rounds, after one that is not counted."
)
def time_shapes(output: Path, repeats: int) -> None:
    """Times the restoration graph of each trained shape in ONNX Runtime, in turns."""
    graphs = {path.parent.name: path.read_bytes() for path in sorted(output.glob(f"*/{GRAPH}"))}
    if not graphs:
        raise click.ClickException(f"{output}: found no {GRAPH}; run `train` first")
    try:
        times = timed(graphs, repeats=repeats)
    except M2AError as error:
        raise click.ClickException(str(error)) from error
    atomic_write(output / TIMED, json.dumps(times, indent=2).encode(), overwrite=True)


def timed(graphs: Mapping[str, bytes], *, repeats: int) -> dict[str, dict[str, Any]]:
    """Times graphs on all cores, in slices as the runtime opens them.

    The values of the patches do not matter.
    """
    sites = build_sites(pad_mask(blob_mask(*PICTURE, COVERAGE)))
    patches = np.random.default_rng(0).random((len(sites.pixels), 3 * PATCH * PATCH), np.float32)
    feeds = {"patches": patches, **sites.tables}
    runners = open_runners(list(graphs.values()), backend=DEFAULT_BACKEND)
    work = {
        name: partial(seconds_of, partial(runner.run, feeds))
        for name, runner in zip(graphs, runners, strict=True)
    }
    taken = in_turns(work, warmup=1, repeats=repeats)
    return {
        name: {
            "restore": vars(taken[name]["all"]),
            "gathers": gather_share(
                profile_nodes(slice_gathers(graph), feeds, threads=None, runs=3)
            ),
        }
        for name, graph in graphs.items()
    }


@main.command()
@click.option("-o", "--output", type=FOLDER, required=True, help="Folder of the runs.")
def table(output: Path) -> None:
    """Prints the table of what was trained and timed, and writes shapes.md and shapes.json."""
    rows = rows_of(output)
    if not rows:
        raise click.ClickException(f"{output}: found no {TRAINED}; run `train` first")
    text = markdown_table(TITLES, [cells_of(row) for row in rows])
    atomic_write(output / "shapes.json", json.dumps(rows, indent=2).encode(), overwrite=True)
    atomic_write(output / "shapes.md", text.encode(), overwrite=True)
    click.echo(text, nl=False)


TITLES = (
    "width",
    "blocks",
    "T",
    "parameters",
    "kFLOP per active pixel",
    "restore",
    "gathers",
    "gain",
    "gain at blur of " + ", ".join(f"{low:g}" for low in LENGTHS[:-1]) + " px and more",
)


def rows_of(output: Path) -> list[dict[str, Any]]:
    """Joins what was trained with what was timed; the cheapest shape first."""
    times = json.loads((output / TIMED).read_text()) if (output / TIMED).exists() else {}
    rows = []
    for path in output.glob(f"*/{TRAINED}"):
        record = json.loads(path.read_text())
        network = M2AENetConfig.from_json(record["shape"])
        restorer = M2AENet(network).restorer
        cost = {
            "parameters": sum(p.numel() for p in restorer.parameters()),
            "restore_flop": count_cost(network).restore,
        }
        rows.append({"run": path.parent.name, **cost, **times.get(path.parent.name, {}), **record})
    return sorted(rows, key=lambda row: row["restore_flop"])


def cells_of(row: Mapping[str, Any]) -> list[str]:
    """The cells of one line of the Markdown table."""
    shape, timed = row["shape"], "restore" in row
    return [
        str(shape["width"]),
        "-".join(map(str, shape["blocks"])),
        str(shape["trajectory_points"]),
        f"{row['parameters'] / 1e6:.2f} M",
        f"{row['restore_flop'] / 1e3:.0f}",
        f"{row['restore']['median']:.3f} s" if timed else "",
        f"{row['gathers']:.0%}" if timed else "",
        f"{row['gain']:+.2f} dB",
        ", ".join(gain_by_length(row)),
    ]


if __name__ == "__main__":
    main()
