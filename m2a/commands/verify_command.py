"""`m2a verify`: does a bundle still compute what the trained network computed?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from m2a.commands.opening import tell_fallback
from m2a.commands.options import (
    EXISTING_OR_NOT,
    backend_options,
    bundle_option,
    chosen_bundle,
    json_option,
    print_json,
)
from m2a.errors import UsageError
from m2a.runtime.bundle import MADE_BY, MANIFEST, PRECISIONS
from m2a.runtime.images import read_photo
from m2a.runtime.loading import open_bundle_on
from m2a.runtime.verify import Verification, verify


@click.command("verify")
@click.argument("image", type=EXISTING_OR_NOT, required=False)
@bundle_option
@backend_options
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    metavar="|".join(MADE_BY),
    help="Verify these graphs alone. [default: all that the bundle holds]",
)
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    image: Path | None,
    bundle: Path | None,
    backend: str,
    allow_fallback: bool,
    precision: str | None,
    as_json: bool,
) -> None:
    """Compare every stage with the reference; exit 1 where one is beyond its limit.

    Every variant that the bundle holds is verified, each within its own limits.

    Without IMAGE the reference is the torch network's own result, stored in the bundle. With
    IMAGE it is the FP32 graphs computed on the CPU node by node. Torch is not needed.

    \b
    Example:
      m2a verify
    """
    if image is not None and (image / MANIFEST).is_file():
        raise UsageError(
            f"{image}: found a bundle, expected a photo; did you mean "
            f"`m2a verify --bundle {image}`?"
        )
    found = chosen_bundle(bundle)
    pixels = None if image is None else read_photo(image).pixels
    outcomes = []
    for chosen in found.precisions if precision is None else (precision,):
        deblurrer = open_bundle_on(
            found, backend=backend, precision=chosen, allow_fallback=allow_fallback
        )
        tell_fallback(deblurrer)
        outcomes.append(verify(found, deblurrer, pixels))
    failed = [outcome for outcome in outcomes if outcome.failed is not None]
    if as_json:
        print_json(_to_json(outcomes))
    else:
        click.echo(f"Reference: {outcomes[0].reference}")
        for outcome in outcomes:
            _print(outcome)
        click.echo(_verdict(passed=not failed, on_photo=image is not None))
    for outcome in failed:
        stage = outcome.failed
        assert stage is not None
        click.echo(
            f"m2a: {outcome.precision}: the stage {stage.name!r} is off by {stage.error:.1e}, "
            f"expected at most {stage.limit:.1e}; the stages after it were fed the reference and "
            "count on their own",
            err=True,
        )
    if failed:
        ctx.exit(1)


def _print(outcome: Verification) -> None:
    click.echo(
        f"Verified:  {outcome.precision} on {outcome.backend}, mask coverage {outcome.coverage:.1%}"
    )
    click.echo(f"  {'stage':18} {'found':>8}  {'at most':>8}          what is measured")
    for stage in outcome.stages:
        verdict = "ok" if stage.passed else "FAILED"
        figures = f"{stage.error:8.1e}  {stage.limit:8.1e}  {verdict:6}"
        click.echo(f"  {stage.name:18} {figures}  {stage.measure}")
    if len(outcome.stages) == 1:
        click.echo("  no blur found: the restoration was not compared")


def _verdict(*, passed: bool, on_photo: bool) -> str:
    expected = "the FP32 graphs do on the CPU" if on_photo else "the network in torch did"
    if passed:
        return f"passed: this bundle computes what {expected}"
    return f"FAILED: this bundle does not compute what {expected}"


def _to_json(outcomes: Sequence[Verification]) -> dict[str, object]:
    return {
        "reference": outcomes[0].reference,
        "variants": [
            {
                "precision": outcome.precision,
                "backend": outcome.backend,
                "coverage": outcome.coverage,
                "stages": [{**vars(stage), "passed": stage.passed} for stage in outcome.stages],
                "passed": outcome.failed is None,
            }
            for outcome in outcomes
        ],
        "passed": all(outcome.failed is None for outcome in outcomes),
    }
