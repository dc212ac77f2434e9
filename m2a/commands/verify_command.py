"""`m2a verify`: does a bundle still compute what the trained network computed?"""

from __future__ import annotations

from pathlib import Path

import click

from m2a.commands.options import (
    EXISTING_OR_NOT,
    backend_options,
    bundle_option,
    chosen_bundle,
    json_option,
    print_json,
)
from m2a.runtime.deblurrer import open_bundle_on
from m2a.runtime.images import read_photo
from m2a.runtime.verify import Verification, verify


@click.command("verify")
@click.argument("image", type=EXISTING_OR_NOT, required=False)
@bundle_option
@backend_options
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    image: Path | None,
    bundle: Path | None,
    backend: str,
    allow_fallback: bool,
    as_json: bool,
) -> None:
    """Compare every stage with the reference; exit 1 where one is beyond its limit.

    Without IMAGE the reference is the torch network's own result, stored in the bundle. With
    IMAGE it is the FP32 graphs computed on the CPU node by node. Torch is not needed.

    \b
    Example:
      m2a verify
    """
    found = chosen_bundle(bundle)
    pixels = None if image is None else read_photo(image).pixels
    deblurrer = open_bundle_on(found, backend=backend, allow_fallback=allow_fallback)
    outcome = verify(found, deblurrer, pixels)
    if as_json:
        print_json(_to_json(outcome))
    else:
        _print(outcome)
    if outcome.failed is not None:
        stage = outcome.failed
        click.echo(
            f"m2a: the stage {stage.name!r} is off by {stage.error:.1e}, expected at most "
            f"{stage.limit:.0e}; the stages after it were fed the reference and count on their own",
            err=True,
        )
        ctx.exit(1)


def _print(outcome: Verification) -> None:
    click.echo(f"Reference: {outcome.reference}")
    click.echo(f"Verified:  {outcome.backend}, mask coverage {outcome.coverage:.1%}")
    for stage in outcome.stages:
        verdict = "ok" if stage.passed else "FAILED"
        click.echo(f"  {stage.name:18} {stage.error:.1e}  limit {stage.limit:.0e}  {verdict}")
    if len(outcome.stages) == 1:
        click.echo("  no blur found: the restoration was not compared")


def _to_json(outcome: Verification) -> dict[str, object]:
    return {
        "reference": outcome.reference,
        "backend": outcome.backend,
        "coverage": outcome.coverage,
        "stages": [{**vars(stage), "passed": stage.passed} for stage in outcome.stages],
        "passed": outcome.failed is None,
    }
