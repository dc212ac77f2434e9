"""`m2a synth`: photos with synthetic local motion blur."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from m2a.commands.options import EXISTING_OR_NOT
from m2a.errors import UsageError
from m2a.extras import needing_extra

if TYPE_CHECKING:
    from m2a.training.samples import SynthesisConfig

Range = tuple[float, float]
_SHARE = click.FloatRange(0.0, 1.0)


@click.command("synth")
@click.argument("photos", type=EXISTING_OR_NOT)
@click.option("-o", "--output", type=EXISTING_OR_NOT, required=True, help="Folder to write.")
@click.option("--count", type=click.IntRange(1), default=100, show_default=True)
@click.option(
    "--size", type=click.IntRange(32), help="Side in pixels. [default: 256, or the recipe's]"
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--only", multiple=True, metavar="NAME", help="Take this photo; repeatable.")
@click.option(
    "--cutouts",
    type=EXISTING_OR_NOT,
    help="Folder of things cut out (PNG, TIFF or WebP with alpha): half of the pasted objects, or "
    "the recipe's cutout_probability, are taken from it.",
)
@click.option(
    "--recipe",
    type=EXISTING_OR_NOT,
    help="Render what this recipe (TOML) trains on: its table [synthesis].",
)
@click.option(
    "--blur-length",
    type=(float, float),
    metavar="LOW HIGH",
    help="Range of the blur's length in pixels. [default: 4 60, or the recipe's]",
)
@click.option(
    "--shake",
    type=_SHARE,
    help="Share of samples with camera shake. [default: 0, or the recipe's]",
)
@click.option(
    "--still", type=_SHARE, help="Share of samples without blur. [default: 0, or the recipe's]"
)
@click.option(
    "--noise",
    type=(float, float),
    metavar="LOW HIGH",
    help="Range of the noise, in levels of 255; the truth has the same. [default: 0 2, or the "
    "recipe's]",
)
@click.option(
    "--jpeg",
    type=(int, int),
    metavar="LOW HIGH",
    help="Compress every blurred picture by JPEG of a quality in this range. [default: none, or "
    "as the recipe says]",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Processes that render; the samples do not depend on it.",
)
@click.option("--overwrite", is_flag=True, help="Render samples that are there anew.")
def command(
    photos: Path,
    output: Path,
    count: int,
    seed: int,
    only: tuple[str, ...],
    cutouts: Path | None,
    recipe: Path | None,
    workers: int,
    overwrite: bool,
    **look: Any,  # noqa: ANN401 - the options of `_adjusted`
) -> None:
    """Render crops of the sharp photographs in PHOTOS with things in motion.

    Writes blurred/, sharp/ (the scene at mid-exposure), mask/, visible/ (where the blur shows),
    motion/ (the true trajectories), a contact sheet to look at, and what it was rendered from.
    The same command goes on where a killed run stopped.

    \b
    Example:
      m2a synth photos -o known --count 100 --seed 1
    """
    # A recipe is a training's.
    packages = ["opencv-python-headless"] if recipe is None else None
    with needing_extra("train", only=packages, purpose="Rendering blur"):
        from m2a.commands.progress import progress_bar
        from m2a.training.protocol import EVALUATION, Source, write_samples

    config = _adjusted(EVALUATION if recipe is None else _of_recipe(recipe), **look)
    source = Source(photographs=photos, only=only, cutouts=cutouts, config=config, seed=seed)
    with progress_bar(count, "Rendering", quiet=True, time_left=True) as bar:
        sheet = write_samples(
            source, output, count=count, workers=workers, overwrite=overwrite, progress=bar.at
        )
    click.echo(f"Look at {sheet}", err=True)


def _of_recipe(recipe: Path) -> SynthesisConfig:
    from m2a.training.config import read_recipe

    return read_recipe(recipe).synthesis


def _adjusted(
    config: SynthesisConfig,
    *,
    size: int | None,
    blur_length: Range | None,
    shake: float | None,
    still: float | None,
    noise: Range | None,
    jpeg: tuple[int, int] | None,
) -> SynthesisConfig:
    """The configuration with what the options ask for; None leaves it as it is."""
    from dataclasses import replace

    changes: dict[str, Any] = {}
    if size is not None:
        changes["size"] = size
    if blur_length is not None:
        changes["blur_length"] = blur_length
    if noise is not None:
        changes["noise_sigma"] = (noise[0] / 255, noise[1] / 255)
    if jpeg is not None:
        changes |= {"jpeg_quality": jpeg, "jpeg_probability": 1.0}
    if shake is not None or still is not None:
        changes |= _shares(config, shake=shake, still=still)
    try:
        return replace(config, **changes)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _shares(
    config: SynthesisConfig, *, shake: float | None, still: float | None
) -> dict[str, float]:
    """Shares of all kinds of samples; those with local blur keep their proportion."""
    shake = config.shake_probability if shake is None else shake
    still = config.still_probability if still is None else still
    rest = 1.0 - shake - still
    if rest < -1e-9:
        raise UsageError(
            f"found shares of {shake:g} shaken and {still:g} still samples, expected "
            "at most 1 together"
        )
    rest = max(rest, 0.0)
    local = config.objects_probability + config.region_probability
    objects = config.objects_probability / local if local else 0.5
    return {
        "shake_probability": shake,
        "still_probability": still,
        "objects_probability": rest * objects,
        "region_probability": rest * (1.0 - objects),
    }
