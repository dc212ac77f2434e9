"""Trainings that differ in one thing, measured on the same held-out crops."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, stdev

from m2a.models.checkpoint import load_checkpoint
from m2a.models.network import M2AENet
from m2a.models.reparameterize import gathered_restorer
from m2a.runtime.manifest import DEFAULT_DILATE
from m2a.runtime.sites import dilate
from m2a.training.config import TrainingConfig
from m2a.training.photographs import load_photographs
from m2a.training.protocol import EVALUATION
from m2a.training.samples import Sample
from m2a.training.train import train
from m2a.training.trainer import Progress
from m2a.training.validation import Validation, psnr_gain, restore

SEED = 1
"""The held-out crops: those of `m2a synth --seed 1`, by which the model card's choices are made."""


def held_out_samples(config: TrainingConfig, photographs: Path, *, count: int) -> list[Sample]:
    """Draws crops of the photographs that a recipe holds out, by the protocol of the model card.

    Raises:
        TrainingError: one of them is not in the folder `photographs`.
    """
    photos = load_photographs(photographs, only=config.held_out)
    return Validation(photos, EVALUATION, count=count, seed=SEED).samples


def train_beside(
    config: TrainingConfig,
    *,
    photographs: Path,
    run: Path,
    init: Path | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> M2AENet:
    """Trains, or goes on where the run stopped, with the samples that all runs beside it share.

    Args:
        config: the recipe.
        photographs: folder of sharp photographs.
        run: folder of the run; the samples lie beside it, in `samples`.
        init: a checkpoint to begin from instead of random weights.
        report: called with a line of text every 50 steps.

    Returns:
        The moving average of the weights, in evaluation mode.

    Raises:
        TrainingError: as `train`.
        CheckpointError: `init` cannot be read.
    """
    samples = run.parent / "samples"
    run.mkdir(parents=True, exist_ok=True)
    samples.mkdir(exist_ok=True)
    if not (run / "samples").exists():
        (run / "samples").symlink_to(samples.resolve(), target_is_directory=True)
    path = train(
        config,
        photographs=photographs,
        run=run,
        init=init,
        report=lambda progress: report(_line_of(progress)),
    )
    return load_checkpoint(path)


def _line_of(progress: Progress) -> str:
    return (
        f"{progress.step} gain {progress.psnr_gain:+.2f} dB {progress.reconstruction_loss:.4f} "
        f"IoU {progress.mask_iou:.3f} {progress.seconds_per_step:.2f} s/step"
    )


def under_true_masks(
    network: M2AENet, samples: Sequence[Sample]
) -> tuple[list[float], list[float | None]]:
    """Restores each sample under its true mask, widened by 4 pixels.

    Returns:
        The gain on each, dB, and the median angle error of its trajectories, as `Restored`.
    """
    gathered = gathered_restorer(network)
    restored = [restore(gathered, s, dilate(s.mask, DEFAULT_DILATE)) for s in samples]
    gains = [psnr_gain(s, r.picture) for s, r in zip(samples, restored, strict=True)]
    return gains, [r.angle_error for r in restored]


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean of at least two values and its standard error."""
    return fmean(values), stdev(values) / math.sqrt(len(values))


def markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, a line for each row."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
