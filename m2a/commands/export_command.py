"""`m2a export`: from a checkpoint to a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from m2a.commands.options import EXISTING_OR_NOT, json_option, print_json
from m2a.extras import check_extras
from m2a.runtime.bundle import DEFAULT_DIRECTORY, open_bundle
from m2a.runtime.manifest import DEFAULT_DILATE, DEFAULT_THRESHOLD, BundleDescription


@click.command("export")
@click.option("--ckpt", type=EXISTING_OR_NOT, required=True, help="A .pth or .safetensors file.")
@click.option(
    "-o",
    "--output",
    type=EXISTING_OR_NOT,
    default=Path(DEFAULT_DIRECTORY),
    show_default=True,
    help="The bundle's directory; an older bundle there is replaced as a whole.",
)
@click.option(
    "--threshold",
    type=float,
    help="The bundle's default for `m2a run --threshold`.  [default: the checkpoint's, else "
    f"{DEFAULT_THRESHOLD:g}]",
)
@click.option(
    "--dilate",
    type=int,
    help="The bundle's default for `m2a run --dilate`, pixels.  [default: the checkpoint's, "
    f"else {DEFAULT_DILATE}]",
)
@click.option("--fp16", is_flag=True, help="Add the FP16 variant of both graphs.")
@click.option(
    "--with-dense/--without-dense",
    default=True,
    show_default=True,
    help="Add the restorer over every pixel, which `m2a run` takes where next to nothing is left "
    "out, and `m2a bench` measures against.",
)
@json_option
def command(
    ckpt: Path,
    output: Path,
    threshold: float | None,
    dilate: int | None,
    fp16: bool,
    with_dense: bool,
    as_json: bool,
) -> None:
    """Reparameterize a checkpoint, export both ONNX graphs and prove that they agree with torch.

    It takes a minute or two.

    \b
    Example:
      m2a export --ckpt model.pth
    """
    check_extras("cpu", "export", purpose="Exporting a checkpoint")
    from m2a.export import export_bundle

    def progress(step: str) -> None:
        click.echo(f"{step} …", err=True)

    report = export_bundle(
        ckpt,
        output,
        threshold=threshold,
        dilate=dilate,
        with_dense=with_dense,
        progress=progress,
    )
    variant = None
    if fp16:
        from m2a.calibration import add_variant, make_float16

        bundle = open_bundle(report.bundle)
        variant = make_float16(bundle, progress=progress)
        add_variant(bundle, variant)
    if as_json:
        print_json(
            {
                "bundle": str(report.bundle),
                "model": report.model,
                "parameters": dict(report.parameters),
                "flop_per_pixel": vars(report.cost),
                "bytes": dict(report.sizes),
                "parity": dict(report.parity),
                "threshold": report.threshold,
                "dilate": report.dilate,
                "replaced": None
                if report.replaced is None
                else {"threshold": report.replaced.threshold, "dilate": report.replaced.dilate},
                "variants": {} if variant is None else {variant.precision: variant.to_json()},
            }
        )
        return
    click.echo(f"\n{report.bundle}: M2AENet, {report.model}")
    click.echo(f"  threshold {report.threshold:g}, dilation {report.dilate} pixels")
    if report.replaced is not None:
        click.echo(f"  {_replacement(report.replaced, report.threshold, report.dilate)}")
    for part, flop in vars(report.cost).items():
        active = "active pixel" if part == "restore" else "pixel"
        click.echo(
            f"  {part:8} {report.parameters[part]:>10,} parameters  "
            f"{flop / 1000:8.1f} kFLOP per {active}"
        )
    for name, size in report.sizes.items():
        click.echo(f"  {name:20} {size / 1e6:8.2f} MB")
    click.echo("Worst error per stage (motion as a share of its 48-pixel bound), limit 1e-04:")
    for stage, error in report.parity.items():
        click.echo(f"  {stage:32} {error:.1e}")
    if variant is not None:
        click.echo(
            f"FP16: errors of mask and residual lie {variant.mask_margin:.0f} and "
            f"{variant.residual_margin:.0f} dB below their own deviation"
        )
    option = "" if str(output) == DEFAULT_DIRECTORY else f" --bundle {output}"
    click.echo(f"Next: m2a verify{option}")


def _replacement(older: BundleDescription, threshold: float, dilate: int) -> str:
    """Says that an older bundle was replaced, and which of its defaults changed."""
    changes = []
    if older.threshold != threshold:
        changes.append(f"the threshold was {older.threshold:g} and is {threshold:g}")
    if older.dilate != dilate:
        changes.append(f"the dilation was {older.dilate} and is {dilate} pixels")
    return "; ".join(["replaced the older bundle", *changes])
