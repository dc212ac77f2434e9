"""`m2a eval`: measure a bundle on known truth."""

from __future__ import annotations

from pathlib import Path

import click

from m2a.commands.opening import Opening, opening_options
from m2a.commands.options import EXISTING_OR_NOT, json_option, print_json
from m2a.evaluation import evaluate
from m2a.extras import check_extras
from m2a.runtime.backends import extras_of


@click.command("eval")
@click.argument("folder", type=EXISTING_OR_NOT)
@opening_options()
@json_option
def command(
    folder: Path,
    opening: Opening,
    as_json: bool,
) -> None:
    """Measure PSNR and SSIM inside the true mask, and how well mask and motion are found.

    FOLDER holds blurred/, sharp/ and mask/ with pictures of the same names, and perhaps visible/
    and motion/, as `m2a synth` writes them. Masks are the predicted ones. Needs the extra `eval`.

    \b
    Example:
      m2a synth photos -o known --count 100 && m2a eval known
    """
    check_extras(*extras_of(opening.backend), "eval", purpose="Measuring on known truth")
    evaluation = evaluate(
        opening.open(), folder, progress=lambda score: click.echo(f"{score.name} …", err=True)
    )
    if as_json:
        print_json(evaluation.to_json())
        return
    for score in evaluation.scores:
        gain = "  still" if score.gain is None else f"{score.gain:+6.2f} dB"
        click.echo(f"{score.name:20} {gain}  IoU {score.iou:.2f}  coverage {score.coverage:6.1%}")
    click.echo("")
    for name, value in evaluation.summary().items():
        click.echo(f"{name:26} {'-' if value is None else format(value, '.4g')}")
