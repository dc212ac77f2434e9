"""`m2a eval`: measure a bundle or a checkpoint on known truth."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from m2a.commands.eval_table import table_lines
from m2a.commands.opening import Opening, opening_options
from m2a.commands.options import (
    EXISTING_OR_NOT,
    json_option,
    overwrite_option,
    print_json,
)
from m2a.errors import M2AError, UsageError, on_one_line
from m2a.evaluation import Arithmetic, Evaluation, Pair, evaluate, find_pairs
from m2a.evaluation.datasets import SPLITS
from m2a.evaluation.evaluate import Deblurs
from m2a.evaluation.layouts import LAYOUTS
from m2a.evaluation.score import arithmetic_of
from m2a.evaluation.sheet import draw_sheet
from m2a.extras import check_extras
from m2a.files import atomic_write, check_target
from m2a.runtime.backends import extras_of
from m2a.runtime.images import Photo, check_output, write_photo

_OF_A_BUNDLE = {
    "bundle": "--bundle",
    "backend": "--backend",
    "allow_fallback": "--allow-fallback",
    "precision": "--precision",
    "ensemble": "--ensemble",
    "max_memory": "--max-memory",
}
"""Options that say nothing about a checkpoint."""


@click.command("eval")
@click.argument("folder", type=EXISTING_OR_NOT)
@click.option(
    "--ckpt",
    type=EXISTING_OR_NOT,
    help="Measure this .safetensors or .pth file instead of a bundle, in torch, as the masked "
    "dense network; needs the extra `export`.",
)
@click.option(
    "--layout",
    type=click.Choice(["auto", *LAYOUTS]),
    metavar="|".join(["auto", *LAYOUTS]),
    default="auto",
    show_default=True,
    help="What FOLDER is; `sharp` says that all its pictures are, so that whatever is found in "
    "them is false.",
)
@click.option(
    "--split",
    type=click.Choice(SPLITS),
    metavar="|".join(SPLITS),
    default="test",
    show_default=True,
    help="Which part of ReLoBlur or GoPro.",
)
@click.option(
    "--blur-gamma/--no-blur-gamma", help="Take GoPro's blurred pictures from blur_gamma/."
)
@click.option(
    "--sheet",
    type=EXISTING_OR_NOT,
    metavar="FILE.png",
    help="Draw blurred, restored and truth side by side, to look at; the worst come first.",
)
@click.option(
    "--sheet-count",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Pictures on the sheet, spread evenly from the worst gain to the best.",
)
@click.option(
    "--save",
    type=EXISTING_OR_NOT,
    metavar="FILE.json",
    help="Write what --json prints.",
)
@overwrite_option
@opening_options()
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    folder: Path,
    ckpt: Path | None,
    layout: str,
    split: str,
    blur_gamma: bool,
    sheet: Path | None,
    sheet_count: int,
    save: Path | None,
    overwrite: bool,
    opening: Opening,
    as_json: bool,
) -> None:
    """Measure PSNR and SSIM inside the true mask, and how well mask and motion are found.

    FOLDER is what `m2a synth` writes, or any other with blurred/, sharp/ and mask/ and pictures of
    the same names in them; or ReLoBlur or GoPro as they are distributed; or, with --layout sharp,
    sharp photographs. Masks are the predicted ones. Needs the extra `eval`.

    \b
    Example:
      m2a synth photos -o known --count 100 && m2a eval known --sheet known.png
      m2a eval known --ckpt model.safetensors --json
    """
    # Not above: `--help` shall not wait for the import of rich.
    from m2a.commands.progress import progress_bar

    if ckpt is not None:
        _refuse_bundle_options(ctx)
    needed = extras_of(opening.backend) if ckpt is None else ("export",)
    check_extras(*needed, "eval", purpose="Measuring on known truth")
    _check_files(sheet, save, overwrite=overwrite)
    pairs = find_pairs(
        folder, layout=None if layout == "auto" else layout, split=split, gamma=blur_gamma
    )
    subject = _bundle(opening) if ckpt is None else _checkpoint(ckpt, opening)
    hidden = as_json and sys.stdout.isatty()
    failures: dict[str, M2AError] = {}
    done = itertools.count(1)
    with progress_bar(len(pairs), "Measuring", quiet=True, hidden=hidden, time_left=True) as bar:

        def fail(pair: Pair, error: M2AError) -> None:
            failures[pair.name] = error
            bar.at(next(done))

        evaluation = evaluate(
            subject.deblurrer,
            pairs,
            arithmetic=subject.arithmetic,
            progress=lambda _: bar.at(next(done)),
            failed=fail,
        )
    if not evaluation.scores:
        raise next(iter(failures.values()))
    report = {
        "measured": {**subject.description, "folder": str(folder)},
        **evaluation.to_json(),
        "failed": {name: str(error) for name, error in failures.items()},
    }
    if save is not None:
        content = json.dumps(report, indent=1, allow_nan=False).encode()
        atomic_write(save, content + b"\n", overwrite=overwrite)
    if as_json:
        print_json(report)
    else:
        click.echo(f"{subject}, {folder}\n")
        for line in table_lines(evaluation):
            click.echo(line)
    if sheet is not None:
        _write_sheet(
            sheet, subject, pairs, evaluation, count=sheet_count, overwrite=overwrite, hidden=hidden
        )
    for error in failures.values():
        click.echo(f"m2a: {on_one_line(str(error))}", err=True)
    if failures:
        click.echo(f"{len(failures)} of {len(pairs)} pictures could not be measured", err=True)
        ctx.exit(1)


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """What is measured, what it costs, and what tells it in a report."""

    deblurrer: Deblurs
    arithmetic: Arithmetic | None
    description: Mapping[str, Any]

    def __str__(self) -> str:
        told = "{0}, {backend}, {precision}, threshold {threshold:g}, dilation {dilate}".format(
            self.description.get("bundle", self.description.get("checkpoint")), **self.description
        )
        turns = self.description["ensemble"]
        return told if turns == 1 else f"{told}, mean of {turns} turns"


def _bundle(opening: Opening) -> _Subject:
    deblurrer = opening.open()
    return _Subject(
        deblurrer=deblurrer,
        arithmetic=arithmetic_of(deblurrer),
        description={
            "bundle": str(deblurrer.bundle.path),
            "backend": deblurrer.backend,
            "precision": deblurrer.precision,
            "threshold": deblurrer.threshold,
            "dilate": deblurrer.dilate,
            "ensemble": deblurrer.ensemble,
        },
    )


def _checkpoint(path: Path, opening: Opening) -> _Subject:
    # Not above: torch is not there where bundles alone are measured.
    from m2a.export.mask_defaults import mask_defaults
    from m2a.export.masked_dense import MaskedDenseDeblurrer
    from m2a.models.checkpoint import open_checkpoint
    from m2a.models.cost import count_cost

    network, header, _ = open_checkpoint(path)
    mask = mask_defaults(header, path, threshold=opening.threshold, dilate=opening.dilate)
    deblurrer = MaskedDenseDeblurrer(network, **mask._asdict(), threads=opening.threads)
    return _Subject(
        deblurrer=deblurrer,
        arithmetic=Arithmetic(**vars(count_cost(network.config))),
        description={
            "checkpoint": str(path),
            "backend": "torch",
            "precision": "fp32",
            "threshold": deblurrer.threshold,
            "dilate": deblurrer.dilate,
            "ensemble": 1,
        },
    )


def _refuse_bundle_options(ctx: click.Context) -> None:
    given = [
        option
        for name, option in _OF_A_BUNDLE.items()
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise UsageError(
            f"found --ckpt beside {', '.join(given)}, expected one or the other: a checkpoint is "
            "measured in torch; leave out --ckpt to measure a bundle"
        )


def _check_files(sheet: Path | None, save: Path | None, *, overwrite: bool) -> None:
    """Refuses outputs that could not be written, before any work is done."""
    if sheet is not None:
        check_output(sheet, overwrite=overwrite)
    if save is not None:
        if save.suffix.lower() != ".json":
            raise UsageError(f"--save {save}: found the suffix {save.suffix!r}, expected .json")
        check_target(save, overwrite=overwrite)


def _write_sheet(
    path: Path,
    subject: _Subject,
    pairs: Sequence[Pair],
    evaluation: Evaluation,
    *,
    count: int,
    overwrite: bool,
    hidden: bool,
) -> None:
    from m2a.commands.progress import progress_bar

    total = min(count, len(evaluation.scores))
    with progress_bar(total, "Drawing", quiet=True, hidden=hidden, time_left=True) as bar:
        drawn = draw_sheet(subject.deblurrer, pairs, evaluation, count=count, progress=bar.at)
    write_photo(path, Photo(pixels=drawn), overwrite=overwrite)
    click.echo(f"Look at {on_one_line(path)}", err=True)
