"""`m2a eval`: measure a bundle on known truth."""

from __future__ import annotations

from pathlib import Path

import click

from m2a.commands.options import (
    EXISTING_OR_NOT,
    backend_options,
    bundle_option,
    chosen_bundle,
    json_option,
    precision_option,
    print_json,
)
from m2a.evaluation import evaluate
from m2a.extras import check_extras
from m2a.runtime.backends import extras_of
from m2a.runtime.loading import open_bundle_on


@click.command("eval")
@click.argument("folder", type=EXISTING_OR_NOT)
@bundle_option
@backend_options
@precision_option
@json_option
def command(
    folder: Path,
    bundle: Path | None,
    backend: str,
    allow_fallback: bool,
    precision: str,
    as_json: bool,
) -> None:
    """Measure PSNR and SSIM inside the true mask, and how well mask and motion are found.

    FOLDER holds blurred/, sharp/ and mask/ with pictures of the same names, and perhaps visible/
    and motion/, as `m2a synth` writes them. Masks are the predicted ones. Needs the extra `eval`.

    \b
    Example:
      m2a synth photos -o known --count 100 && m2a eval known
    """
    check_extras(*extras_of(backend), "eval", purpose="Measuring on known truth")
    deblurrer = open_bundle_on(
        chosen_bundle(bundle),
        backend=backend,
        precision=precision,
        allow_fallback=allow_fallback,
    )
    evaluation = evaluate(
        deblurrer, folder, progress=lambda score: click.echo(f"{score.name} …", err=True)
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
