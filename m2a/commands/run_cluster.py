"""`m2a run --ray`: the photos of a folder or an object store, on a Ray cluster."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from m2a.commands.opening import Opening
from m2a.commands.options import print_json
from m2a.commands.run_report import Tally
from m2a.errors import UsageError, on_one_line
from m2a.extras import check_extras
from m2a.runtime.backends import extras_of
from m2a.runtime.encoding import check_encodable
from m2a.runtime.outcomes import FAILED, Outcome
from m2a.runtime.plan import STREAM
from m2a.runtime.search import VIDEO_SUFFIXES
from m2a.runtime.settings import FULL, Settings

if TYPE_CHECKING:
    from m2a.cluster.job import Job

__all__ = ["Cluster", "run_cluster"]


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where actors run, how many, and what each takes.

    Attributes:
        address: of a cluster; `local` starts one here.
        actors: None for all that fit.
        gpus_per_actor: 0 for none.
    """

    address: str
    actors: int | None
    gpus_per_actor: float


def run_cluster(
    images: tuple[str, ...],
    output: str,
    settings: Settings,
    opening: Opening,
    cluster: Cluster,
    *,
    refused: Mapping[str, object],
    suffix: str | None,
    recursive: bool,
    as_json: bool,
) -> int:
    """Deblurs a folder on a cluster, says what became of the photos, and returns the exit code.

    Args:
        images: what was given to read.
        output: the folder or URI to write into.
        settings: as for pictures of a folder.
        opening: how each actor opens the bundle, on one thread unless told.
        cluster: where they run.
        refused: options of `m2a run` that mean nothing here → their values.
        suffix: of the outputs; None keeps the source's.
        recursive: look into the folders of the folder too.
        as_json: print an object for each photo on standard output.
    """
    _check_options(images, output, settings, refused, suffix)
    check_extras(*extras_of(opening.backend), "ray", purpose="m2a run --ray")
    from m2a.cluster.job import REPORT, deblur_place

    job = _planned(images[0], output, settings, opening, cluster, suffix, recursive)
    rows = deblur_place(job)
    with closing(rows):
        code = _told(rows, total=job.work.total, as_json=as_json)
    report = job.order.destination.shown(REPORT)
    click.echo(f"m2a: a row for each photo is in {on_one_line(report)}", err=True)
    return code


def _check_options(
    images: tuple[str, ...],
    output: str,
    settings: Settings,
    refused: Mapping[str, object],
    suffix: str | None,
) -> None:
    for option, value in refused.items():
        if value is not None:
            raise UsageError(
                f"{option}: found {value} with --ray, expected none: only deblurred photos are "
                "written on a cluster"
            )
    if len(images) != 1:
        raise UsageError(
            f"--ray: found {len(images)} inputs, expected one folder or URI; an address is "
            "given as --ray=ADDRESS"
        )
    if STREAM in (images[0], output):
        raise UsageError("--ray: found - for a stream, expected a folder or URI at both ends")
    if images[0].lower().endswith(VIDEO_SUFFIXES):
        raise UsageError(f"--ray: found the video {images[0]}, expected a folder of photos")
    if settings.mask not in (None, FULL):
        raise UsageError(
            f"--mask-in: found the picture {settings.mask} with --ray, expected {FULL!r} or none: "
            "one picture does not fit a folder of photos"
        )
    if suffix is not None:
        check_encodable(suffix=suffix, origin="--suffix")


def _planned(
    source: str,
    output: str,
    settings: Settings,
    opening: Opening,
    cluster: Cluster,
    suffix: str | None,
    recursive: bool,
) -> Job:
    from m2a.cluster.job import Job
    from m2a.cluster.places import Place
    from m2a.cluster.recipe import recipe_of
    from m2a.cluster.work import plan_work
    from m2a.cluster.worker import Order, packed_bundle
    from m2a.runtime.backends import PIPELINES
    from m2a.runtime.loading import precision_on

    bundle = opening.find()
    precision = precision_on(bundle, opening.backend, opening.precision).precision
    order = Order(
        source=Place.of(source, option="SOURCE"),
        destination=Place.of(output, option="-o"),
        settings=settings,
        opening=replace(
            opening.without_bundle(), threads=opening.threads or 1, precision=precision
        ),
        bundle=packed_bundle(bundle, precision=precision, engines=opening.backend in PIPELINES),
    )
    recipe = recipe_of(
        bundle,
        settings,
        precision=precision,
        threshold=opening.threshold,
        dilate=opening.dilate,
        ensemble=opening.ensemble,
        suffix=suffix,
    )
    work, manifest = plan_work(
        order.source, order.destination, recipe, settings, recursive=recursive
    )
    return Job(
        work=work,
        manifest=manifest,
        recipe=recipe,
        order=order,
        address=cluster.address,
        actors=cluster.actors,
        gpus_per_actor=cluster.gpus_per_actor,
    )


def _told(rows: Iterable[Mapping[str, Any]], *, total: int, as_json: bool) -> int:
    """Says what becomes of the photos, as it does; returns the exit code."""
    from m2a.commands.progress import progress_bar

    tally = Tally(total)
    began = time.perf_counter()

    def summary() -> str:
        return tally.summary(seconds=time.perf_counter() - began)

    hidden = as_json and sys.stdout.isatty()
    try:
        with progress_bar(total, "Deblurring", quiet=True, hidden=hidden, time_left=True) as bar:
            for row in rows:
                outcome = _outcome(row)
                tally.add(outcome)
                if as_json:
                    print_json(_fields(row))
                if row["status"] == FAILED:
                    bar.line(f"m2a: {on_one_line(row['reason'])}")
                bar.at(tally.counts.total(), tally.figures(outcome))
    except KeyboardInterrupt:
        click.echo(f"{summary()}; the same command does the rest", err=True)
        raise
    click.echo(summary(), err=True)
    return 1 if tally.counts[FAILED] else 0


def _outcome(row: Mapping[str, Any]) -> Outcome:
    sizes = (row["height"], row["width"])
    return Outcome(
        source=Path(row["path"]),
        output=None,
        status=row["status"],
        reason=row["reason"] if row["status"] == FAILED else None,
        coverage=row["coverage"] or 0.0,
        pixels=0 if None in sizes else sizes[0] * sizes[1],
        seconds={} if row["seconds"] is None else {"all": row["seconds"]},
    )


def _fields(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row knows, under the names that `m2a run --json` has; `seconds` is all of them."""
    fields = {"status": row["status"], "input": row["path"], "output": row["output"]}
    known = {**row, "error": row["reason"] if row["status"] == FAILED else None}
    kept = ("coverage", "backend", "seconds", "width", "height", "error")
    return fields | {name: known[name] for name in kept if known[name] is not None}
