"""`m2a train`: from sharp photographs to a checkpoint."""

from __future__ import annotations

from pathlib import Path

import click

from m2a.commands.options import EXISTING_OR_NOT
from m2a.extras import needing_extra


@click.command("train")
@click.argument("recipe", type=EXISTING_OR_NOT)
@click.option("--photos", type=EXISTING_OR_NOT, required=True, help="Folder of sharp photographs.")
@click.option(
    "--cutouts",
    type=EXISTING_OR_NOT,
    help="Folder of things cut out (PNG, TIFF or WebP with alpha) that some of the pasted objects "
    "are taken from, as the recipe's cutout_probability says.",
)
@click.option("-o", "--output", type=EXISTING_OR_NOT, required=True, help="Folder of the run.")
@click.option(
    "--init",
    type=EXISTING_OR_NOT,
    help="Begin from this checkpoint instead of random weights, to go on training or to fine-tune.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Processes that render samples beside the training.",
)
def command(
    recipe: Path,
    photos: Path,
    cutouts: Path | None,
    output: Path,
    init: Path | None,
    workers: int,
) -> None:
    """Train M2AENet by a RECIPE (TOML); the same command goes on where a killed run stopped.

    \b
    Example:
      m2a train recipes/small-restorer.toml --photos photos -o runs/small
    """
    with needing_extra("train", purpose="Training"):
        from m2a.commands.progress import progress_bar
        from m2a.training.config import read_recipe
        from m2a.training.train import train
        from m2a.training.trainer import Progress
        from m2a.training.validation import Validated

    config = read_recipe(recipe)
    with progress_bar(config.steps, "Training") as bar:

        def report(progress: Progress) -> None:
            remaining = (config.steps - progress.step) * progress.seconds_per_step
            if config.minutes:
                remaining = min(remaining, 60 * config.minutes * (1 - progress.share))
            bar.at(
                progress.step,
                f"mask loss {progress.mask_loss:.3f}  IoU {progress.mask_iou:.2f}  "
                f"gain {progress.psnr_gain:+.2f} dB  {progress.seconds_per_step:.2f} s/step  "
                f"{remaining / 60:.0f} min left",
            )

        def validated(step: int, figures: Validated) -> None:
            bar.line(
                f"step {step}, validation: gain {figures.gain:+.2f} dB "
                f"({figures.gain_true_mask:+.2f} under true masks), IoU {figures.iou:.2f}"
            )

        checkpoint = train(
            config,
            photographs=photos,
            run=output,
            cutouts=cutouts,
            init=init,
            render_workers=workers,
            report=report,
            validated=validated,
        )
    click.echo(f"Trained: {checkpoint}\nNext: m2a export --ckpt {checkpoint}")
