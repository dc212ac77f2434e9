"""`m2a calibrate`: the INT8 or FP16 variant of a bundle, calibrated and judged on real photos."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from m2a.cache import kept_at
from m2a.commands.options import (
    EXISTING_OR_NOT,
    MemorySize,
    bundle_option,
    chosen_bundle,
    json_option,
    print_json,
)
from m2a.errors import UsageError, number_of
from m2a.extras import missing_packages

if TYPE_CHECKING:
    from m2a.calibration import Variant
    from m2a.runtime.bundle import Bundle

METHODS = ("percentile", "minmax", "entropy")


@click.command("calibrate")
@click.argument("photos", type=EXISTING_OR_NOT)
@bundle_option
@click.option("--int8", "precision", flag_value="int8", default=True, help="INT8 (the default).")
@click.option(
    "--fp16",
    "precision",
    flag_value="fp16",
    help="FP16, which needs no ranges: judged on photos, and its largest activations told.",
)
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default=METHODS[0],
    show_default=True,
    help="How the range of a tensor follows from its values.",
)
@click.option(
    "--gate-photos",
    type=EXISTING_OR_NOT,
    help="A folder of other photos that judge. [default: 30 % of PHOTOS, held back]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of what is held back.")
@click.option(
    "--max-memory",
    type=MemorySize(),
    help="What the graphs may take at a time, about. [default: a quarter of the memory that is "
    "free]",
)
@json_option
def command(
    photos: Path,
    bundle: Path | None,
    precision: str,
    method: str,
    gate_photos: Path | None,
    seed: int,
    max_memory: int | None,
    as_json: bool,
) -> None:
    """Add an INT8 variant to a bundle, calibrated on a folder of blurred photos.

    Some of the photos calibrate; the others judge: INT8 must give the same picture as FP32 there.
    Products go back to FP32, the worst first, until it does; a bundle is not changed where that
    does not help. It takes minutes. PHOTOS are ten or more; subfolders are not searched. It may be
    a folder of `m2a synth`, whose truth is then counted too. Of the packaged bundle make a copy
    first.

    \b
    Example:
      m2a calibrate photos
      m2a calibrate photos --gate-photos others --method entropy
    """
    _check_used(precision, gate_photos)
    found = chosen_bundle(bundle)
    if found.packaged:
        raise UsageError(
            "the bundle inside the package is not changed; export one of your own "
            "(`m2a export --ckpt checkpoints/small.safetensors`), or copy it "
            f"(`cp -r {shlex.quote(str(found.path))} m2a-bundle`)"
        )
    variant = calibrated(
        found,
        photos,
        precision=precision,
        method=method,
        gate_photos=gate_photos,
        seed=seed,
        max_memory=max_memory,
    )
    from m2a.calibration import add_variant

    add_variant(found, variant)
    if as_json:
        print_json({"bundle": str(found.path), "precision": precision, **variant.to_json()})
        return
    for line in report_of(variant):
        click.echo(line)
    option = "" if bundle is None else f" --bundle {shlex.quote(str(bundle))}"
    click.echo(f"Next: m2a verify --precision {precision}{option}")


def calibrated(
    bundle: Bundle,
    photos: Path,
    *,
    precision: str,
    method: str = METHODS[0],
    gate_photos: Path | None = None,
    seed: int = 0,
    max_memory: int | None = None,
) -> Variant:
    """Makes and judges a variant, and says each step on standard error; writes nothing.

    Raises:
        MissingDependencyError: onnx or ONNX Runtime is not installed.
        M2AError: as `m2a.calibration.int8.make_int8` and `m2a.calibration.float16.make_float16_on`.
    """
    _check_packages()
    from m2a.calibration import check_addable
    from m2a.calibration.float16 import make_float16_on
    from m2a.calibration.int8 import make_int8
    from m2a.calibration.photos import check_readable, choose_photos

    if not bundle.packaged:
        check_addable(bundle, precision)
    sets = choose_photos(photos, judging=gate_photos, seed=seed)

    def progress(step: str) -> None:
        click.echo(f"{step} …", err=True)

    progress(f"reading {len(sets.calibrating) + len(sets.judging)} photos")
    check_readable(sets)
    if precision == "fp16":
        return make_float16_on(bundle, sets, max_memory=max_memory, progress=progress)
    return make_int8(
        bundle,
        sets,
        method=method,
        cache=kept_at("calibration"),
        max_memory=max_memory,
        progress=progress,
    )


def _check_used(precision: str, gate_photos: Path | None) -> None:
    """Refuses options that would be ignored.

    Raises:
        UsageError: one of them was given.
    """
    context = click.get_current_context()

    def given(name: str) -> bool:
        return context.get_parameter_source(name) is ParameterSource.COMMANDLINE

    if precision == "fp16" and given("method"):
        raise UsageError("--method: found it with --fp16, which needs no ranges; leave it out")
    if gate_photos is not None and given("seed"):
        raise UsageError("--seed: found it with --gate-photos, which holds nothing back")


def report_of(variant: Variant) -> list[str]:
    """What was measured, as lines for people."""
    record = variant.record
    photos = number_of(record["gate"]["photos"], "photo")
    lines = [f"{variant.precision}: passed the quality gate on {photos}"]
    lines += _gate_lines(record["gate"])
    for name, (done, total) in record.get("products_in_int8", {}).items():
        lines.append(f"  {name:8} {done} of {total} products in INT8")
    if whole := record.get("gate_with_all_in_int8"):
        lines += ["With all of them in INT8 it did not pass:", *_gate_lines(whole)]
        lines.append("Back in FP32, and the share of what the gate allows that each used alone:")
        lines += [f"  {part:44} {share:7.1%}" for part, share in record["kept_in_fp32"].items()]
    if largest := record.get("largest_activations"):
        from m2a.calibration.activations import MOST

        lines.append(f"Largest activations, of at most {MOST:,.0f}:")
        lines += [f"  {node:44} {value:9.1f}" for node, value in largest.items()]
    return lines


def _gate_lines(gate: dict[str, float | None]) -> list[str]:
    from m2a.calibration.gate import MAX_LOSS, MIN_PSNR
    from m2a.calibration.variants import MIN_IOU, MIN_MARGIN

    rows = [
        ("mask_iou", "IoU of the masks", f"at least {MIN_IOU:g}"),
        ("psnr_db", "dB, PSNR against FP32 where either restores", f"at least {MIN_PSNR:g}"),
        ("margin_db", "dB, error below what FP32 adds", f"at least {MIN_MARGIN:g}"),
        ("truth_loss_db", "dB of PSNR lost against the truth", f"at most {MAX_LOSS:g}"),
    ]
    return [
        f"  {value:8.3f}  {words}, {limit}"
        for key, words, limit in rows
        if (value := gate[key]) is not None
    ]


def _check_packages() -> None:
    from m2a.errors import MissingDependencyError, install_command

    missing = missing_packages("tensorrt", only=["onnx"]) + missing_packages("cpu")
    if missing:
        raise MissingDependencyError(
            *missing,
            extra="tensorrt",
            purpose="Calibrating a bundle",
            install=f"pip install {' '.join(missing)}, or {install_command('export')}",
        )
