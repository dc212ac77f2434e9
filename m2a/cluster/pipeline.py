"""The photos of a run as a stream through Ray Data.

The driver holds the names alone. Blocks of them become blocks of read files, no larger than
`_BLOCK_BYTES`, which wait in Ray's object store until an actor is free; when that fills, Ray Data
stops reading. Only rows come back.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from m2a.cluster.connection import Actors
from m2a.cluster.work import Task
from m2a.cluster.worker import Order, Worker, read_photos
from m2a.errors import ClusterError, on_one_line

__all__ = ["finished_rows"]

_BLOCK_BYTES = 2**25
"""Bytes of read files that an actor is given at once, about."""

_MOST_TASKS = 20_000
"""Tasks of a run, about: Ray's driver keeps account of each."""

_READ_AT_ONCE = 16
"""Photos that a task reads before it hands them on."""

_RETRIES = 2
"""How often a block is given to an actor again whose actor died."""


def finished_rows(
    tasks: Sequence[Task],
    numbers: Sequence[int],
    order: Order,
    actors: Actors,
    *,
    alone: bool = False,
    worker: type[Worker] = Worker,
) -> Iterator[dict[str, Any]]:
    """Deblurs photos on the cluster that is connected.

    Args:
        tasks: all photos of the run.
        numbers: those of them to deblur.
        order: what the workers are told.
        actors: how many, and what each takes.
        alone: give each photo to an actor by itself, so that one that kills it takes no other
            along.
        worker: the actor's class.

    Yields:
        A `FINISHED` row per photo, in any order. Photos whose actor died every time have none.

    Raises:
        ClusterError: no actor can deblur anything; the cluster failed.
    """
    import ray.data

    size = 1 if alone else _block_size(len(numbers), actors.count)
    blocks = [_block(tasks, numbers[at : at + size]) for at in range(0, len(numbers), size)]
    _set_up_context()
    in_flight = 1 if alone else 2
    with warnings.catch_warnings():
        # `max_task_retries` has no name of its own in Ray Data, whose default is without end.
        warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
        rows = (
            ray.data.from_arrow(blocks)
            .map_batches(
                read_photos,
                fn_args=(order,),
                batch_format="pyarrow",
                batch_size=min(size, _READ_AT_ONCE),  # of more, Ray Data would join blocks
                num_cpus=0,  # waits for the disk or the network; the cores are the actors'
                compute=ray.data.TaskPoolStrategy(size=min(len(blocks), max(2, actors.count // 2))),
            )
            .map_batches(
                worker,
                fn_constructor_args=(order,),
                batch_format="pyarrow",
                batch_size=1,
                num_cpus=actors.threads,
                num_gpus=actors.gpus or None,
                compute=ray.data.ActorPoolStrategy(
                    size=min(actors.count, len(blocks)), max_tasks_in_flight_per_actor=in_flight
                ),
                max_task_retries=_RETRIES,
            )
        )
    for row in _streamed(rows):
        unusable = row.pop("unusable")
        if unusable is not None:
            raise ClusterError(unusable)
        yield row


def _streamed(rows: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - a dataset
    import ray

    try:
        batches = rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        for batch in batches:
            yield from batch.to_pylist()
    except (ray.exceptions.RayError, ConnectionError, RuntimeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ClusterError(
            f"the cluster failed: {on_one_line(lines[-1])}; the same command does the rest"
        ) from error


def _block_size(photos: int, actors: int) -> int:
    """Photos per task: few, so that a task that is lost costs little, but not too many tasks."""
    fair = math.ceil(photos / (4 * actors))
    return max(min(16, fair), min(256, math.ceil(photos / _MOST_TASKS)))


def _block(tasks: Sequence[Task], numbers: Sequence[int]) -> pa.Table:
    return pa.table(
        {
            "index": pa.array(numbers, pa.int64()),
            "source": pa.array([tasks[number].source for number in numbers], pa.string()),
            "output": pa.array([tasks[number].output for number in numbers], pa.string()),
        }
    )


def _set_up_context() -> None:
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = _BLOCK_BYTES
    context.max_errored_blocks = -1  # a block whose actors died is looked at by the caller
    for handler in logging.getLogger("ray.data").handlers:
        # Its file among Ray's logs keeps all.
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.CRITICAL)
