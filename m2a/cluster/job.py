"""A run on a cluster from its plan to its report."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from m2a.cluster.connection import Actors, cluster_at, fitting_actors
from m2a.cluster.manifest import FOLDER, ROW, Manifest, Run, parquet_bytes, read_parquet
from m2a.cluster.pipeline import finished_rows
from m2a.cluster.places import Place
from m2a.cluster.recipe import Recipe
from m2a.cluster.work import Task, Work
from m2a.cluster.worker import Order, Worker
from m2a.errors import ClusterError
from m2a.runtime.outcomes import FAILED, SKIPPED

__all__ = ["REPORT", "Job", "deblur_place"]

REPORT = f"{FOLDER}/report.parquet"
"""The report of the last run that came to its end, relative to the place that was written into."""

_COMMIT_SECONDS = 5.0
_COMMIT_ROWS = 5000


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run, planned.

    Attributes:
        work: the photos to do and to skip.
        manifest: what earlier runs did.
        recipe: what makes the outputs.
        order: what the workers are told.
        address: of the cluster: see `cluster_at`.
        actors: how many; None for as many as fit.
        gpus_per_actor: GPUs that each takes.
    """

    work: Work
    manifest: Manifest
    recipe: Recipe
    order: Order
    address: str
    actors: int | None
    gpus_per_actor: float

    def row(self, task: Task, **found: Any) -> dict[str, Any]:  # noqa: ANN401 - `ROW`'s fields
        """The row of a photo, with what was found of it."""
        return dict.fromkeys(ROW.names) | {
            "path": self.order.source.shown(task.source),
            "model": self.recipe.model,
            "output": self.order.destination.shown(task.output),
            "name": task.output,
            **found,
        }


def deblur_place(
    job: Job, *, worker: type[Worker] = Worker
) -> Generator[dict[str, Any], None, None]:
    """Does the work and writes the report.

    Args:
        job: the run.
        worker: the actor's class.

    Yields:
        A row (`manifest.ROW`) for each photo and each folder that could not be read: exactly one.
        The report is written after the last. A consumer that stops before leaves a run that the
        same job continues.

    Raises:
        ClusterError: the cluster cannot be used, or failed.
    """
    others = [*_skipped(job), *_unreadable(job.work)]
    yield from others
    destination, run = job.order.destination, None
    if job.work.tasks:
        began = time.time()
        try:
            with cluster_at(job.address):
                threads, gpus = job.order.opening.threads or 1, job.gpus_per_actor
                actors = fitting_actors(job.actors, threads=threads, gpus=gpus)
                # Not before: what is claimed counts as unfinished.
                claims = [task.output for task in job.work.tasks]
                run = Run.begin(destination, job.manifest, job.recipe, claims=claims)
                yield from _committed(job, run, actors, worker)
        finally:
            destination.remove_unfinished(since=began)
    _write_report(destination, others, run)


def _skipped(job: Job) -> Iterator[dict[str, Any]]:
    for task, why in job.work.skipped.items():
        yield job.row(task, status=SKIPPED, reason=why, model=_model_of(job, task))


def _model_of(job: Job, task: Task) -> str | None:
    """The model that made an output that is kept; None where it is not this one."""
    made = job.manifest.outputs.get(task.output)
    return job.recipe.model if made is not None and made.recipe == job.recipe.sha256 else None


def _unreadable(work: Work) -> Iterator[dict[str, Any]]:
    for folder, why in work.unreadable.items():
        found = {"path": folder, "status": FAILED, "reason": f"{folder}: {why}"}
        yield dict.fromkeys(ROW.names) | found


def _committed(
    job: Job, run: Run, actors: Actors, worker: type[Worker]
) -> Iterator[dict[str, Any]]:
    """The rows of the tasks; they are written from time to time, and however it ends."""
    rows: list[dict[str, Any]] = []
    committed_at = time.monotonic()
    try:
        for row in _finished(job, run, actors, worker):
            rows.append(row)
            yield row
            due = time.monotonic() - committed_at >= _COMMIT_SECONDS
            if due or len(rows) >= _COMMIT_ROWS:
                run.commit(rows)
                rows = []
                committed_at = time.monotonic()
    finally:
        run.commit(rows)


def _finished(job: Job, run: Run, actors: Actors, worker: type[Worker]) -> Iterator[dict[str, Any]]:
    """The rows of the tasks, each once; what killed its actors is given to one alone at last."""
    tasks = job.work.tasks
    left = set(range(len(tasks)))
    for alone in (False, True):
        stream = finished_rows(tasks, sorted(left), job.order, actors, alone=alone, worker=worker)
        for found in stream:
            index = found.pop("index")
            if index in left:
                left.remove(index)
                yield job.row(tasks[index], run=run.name, **found)
        if not left:
            return
        if len(left) == len(tasks) > 1:
            raise ClusterError(
                "not one photo came back from the cluster's machines; expected m2a and its extra "
                "`ray` installed on all of them; Ray's logs tell more"
            )
    for index in sorted(left):
        path = job.order.source.shown(tasks[index].source)
        reason = (
            f"{path}: the process that was to deblur it died each time, when it had nothing else "
            "to do too; perhaps it ran out of memory: try --max-memory"
        )
        yield job.row(tasks[index], status=FAILED, reason=reason, run=run.name)


def _write_report(place: Place, others: Sequence[Mapping[str, Any]], run: Run | None) -> None:
    tables = [pa.Table.from_pylist(list(others), schema=ROW)]
    if run is not None:
        tables += [read_parquet(place, file) for file in run.committed()]
    place.write(REPORT, parquet_bytes(tables))
