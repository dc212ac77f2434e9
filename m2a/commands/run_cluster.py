"""`m2a run --ray`: the photos of a folder or an object store, on a Ray cluster."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from m2a.commands.options import print_json
from m2a.commands.run_report import summary_of
from m2a.errors import UsageError, needing_extra, on_one_line
from m2a.runtime.batch import FAILED, FULL, Settings
from m2a.runtime.bundle import Bundle
from m2a.runtime.deblurrer import check_active_pixels
from m2a.runtime.encoding import check_encodable
from m2a.runtime.plan import STREAM, VIDEO_SUFFIXES

if TYPE_CHECKING:
    from m2a.cluster.job import Job

__all__ = ["ClusterOptions", "run_cluster"]


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """The options of `m2a run` that say where and how actors run, and open their bundle."""

    address: str
    actors: int | None
    gpus_per_actor: float
    backend: str
    precision: str
    threshold: float | None
    dilate: int | None
    allow_fallback: bool
    max_memory: int | None
    threads: int | None


def run_cluster(
    images: tuple[str, ...],
    output: str,
    settings: Settings,
    options: ClusterOptions,
    open_bundle: Callable[[], Bundle],
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
        options: of the cluster and its actors.
        open_bundle: called when all else has been checked.
        refused: options of `m2a run` that mean nothing here → their values.
        suffix: of the outputs; None keeps the source's.
        recursive: look into the folders of the folder too.
        as_json: print an object for each photo on standard output.
    """
    _check_options(images, output, settings, refused, suffix)
    check_active_pixels(options.threshold, options.dilate)
    with needing_extra("ray", purpose="m2a run --ray"):
        from m2a.cluster.job import REPORT, deblur_place

        # Ray alone is imported by none of its modules before it is asked for.
        _check_installed("ray")
    job = _planned(images[0], output, settings, options, open_bundle(), suffix, recursive)
    rows = deblur_place(job)
    with closing(rows):
        code = _told(rows, total=job.work.total, as_json=as_json)
    report = job.order.destination.shown(REPORT)
    click.echo(f"m2a: a row for each photo is in {on_one_line(report)}", err=True)
    return code


def _check_installed(package: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)


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
    options: ClusterOptions,
    bundle: Bundle,
    suffix: str | None,
    recursive: bool,
) -> Job:
    from m2a.cluster.job import Job
    from m2a.cluster.places import Place
    from m2a.cluster.recipe import recipe_of
    from m2a.cluster.work import plan_work
    from m2a.cluster.worker import Opening, Order, packed_bundle

    opening = Opening(
        backend=options.backend,
        precision=options.precision,
        threshold=options.threshold,
        dilate=options.dilate,
        allow_fallback=options.allow_fallback,
        max_memory=options.max_memory,
        threads=options.threads or 1,
    )
    order = Order(
        source=Place.of(source, option="SOURCE"),
        destination=Place.of(output, option="-o"),
        settings=settings,
        opening=opening,
        bundle=packed_bundle(bundle, precision=options.precision),
    )
    recipe = recipe_of(
        bundle,
        settings,
        precision=options.precision,
        threshold=options.threshold,
        dilate=options.dilate,
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
        address=options.address,
        actors=options.actors,
        gpus_per_actor=options.gpus_per_actor,
    )


def _told(rows: Iterable[Mapping[str, Any]], *, total: int, as_json: bool) -> int:
    """Says what becomes of the photos, as it does; returns the exit code."""
    from m2a.commands.progress import progress_bar

    counts: Counter[str] = Counter()
    began = time.perf_counter()

    def summary() -> str:
        seconds = time.perf_counter() - began
        return summary_of(counts, left=total - counts.total(), seconds=seconds)

    hidden = as_json and sys.stdout.isatty()
    try:
        with progress_bar(total, "Deblurring", quiet=True, hidden=hidden, time_left=True) as bar:
            for row in rows:
                counts[row["status"]] += 1
                if as_json:
                    print_json(_fields(row))
                if row["status"] == FAILED:
                    bar.line(f"m2a: {on_one_line(row['reason'])}")
                failed = counts[FAILED]
                bar.at(counts.total(), f"{failed} failed" if failed else "")
    except KeyboardInterrupt:
        click.echo(f"{summary()}; the same command does the rest", err=True)
        raise
    click.echo(summary(), err=True)
    return 1 if counts[FAILED] else 0


def _fields(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row under the names that `m2a run --json` has for them."""
    fields = {"status": row["status"], "input": row["path"], "output": row["output"]}
    kept = ("coverage", "backend", "seconds", "width", "height", "reason")
    return fields | {name: row[name] for name in kept if row[name] is not None}
