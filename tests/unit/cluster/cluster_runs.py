"""Actors that are slow, or die, so that tests can meet them half-way; and what came of a run."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from m2a.cluster.worker import Worker

PHOTOS = 20

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class SlowWorker(Worker):
    """Takes its time, so that something can happen between two photos."""

    def _row(self, photo):
        time.sleep(0.5)
        return super()._row(photo)


class DyingWorker(Worker):
    """Dies of the photo that is called `fatal.png`, as one that takes all memory would."""

    def _row(self, photo):
        if photo["source"].endswith("fatal.png"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._row(photo)


def actors_of(process: int) -> list[int]:
    """The actors among the descendants of a process, by Linux' own list of processes."""
    parents, actors = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text()
            command = (folder / "cmdline").read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        number = int(folder.name)
        parents[number] = int(status.rpartition(")")[2].split()[1])
        if b"MapWorker" in command:
            actors.append(number)

    def descends(number):
        while number in parents and number != process:
            number = parents[number]
        return number == process

    return [actor for actor in actors if descends(actor)]


def pickle_by_value() -> None:
    """The cluster's processes cannot import this file."""
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def with_version(job, version):
    return replace(job, order=replace(job.order, version=version))


def pictures(folder):
    """Relative name → content and time of change of all that is not hidden."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def report_of(folder):
    import pyarrow.parquet as pq

    return pq.read_table(folder / ".m2a/report.parquet").to_pylist()
