"""Deblurring picture files: one that must succeed, or many of which some may fail.

A file is written whole or not at all. What fails leaves nothing new behind; what is interrupted
leaves whole files, which `skip_existing` keeps, and, of photos that were replaced, a `Journal`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2a.errors import ImageError, ImageNotFoundError, M2AError, UsageError
from m2a.files import check_writable
from m2a.runtime.ahead import one_ahead, one_behind
from m2a.runtime.deblurrer import Deblurrer
from m2a.runtime.decoding import largest_file
from m2a.runtime.encoding import check_encodable, takes_quality
from m2a.runtime.images import Photo, read_mask, read_photo
from m2a.runtime.journal import Journal
from m2a.runtime.outcomes import DONE, FAILED, SKIPPED, Outcome, reason_of
from m2a.runtime.output import is_copied
from m2a.runtime.plan import Job, Plan, check_not_read, exists
from m2a.runtime.result import Result
from m2a.runtime.settings import FULL, Settings
from m2a.runtime.stopwatch import Stopwatch
from m2a.runtime.writing import write_files

__all__ = ["check_mask_option", "check_plan", "deblur_files", "given_mask", "outcome_of"]

SHOWN_NAMES = 3
"""Of files in the way: how many are named."""


def deblur_files(
    jobs: Iterable[Job],
    settings: Settings,
    open_deblurrer: Callable[[], Deblurrer],
    *,
    journal: Journal | None = None,
    going_on: Callable[[], bool] = lambda: True,
) -> Iterator[Outcome]:
    """Deblurs picture after picture; one that fails does not stop those after it.

    While a photo is computed, the next one is decoded and the one before it is written.

    Args:
        jobs: the pictures, of which no two write the same file. Folders are created.
        settings: how files are read and written.
        open_deblurrer: called once, when the first picture is to be computed.
        journal: of an interrupted run: photos that stand in it were replaced by it and are
            skipped; those that are replaced now are noted. The caller removes it.
        going_on: asked before each picture; where it says no, those that were begun are finished.

    Yields:
        An outcome per job, in their order, when its files are written.

    Raises:
        M2AError: what `open_deblurrer` raises.
    """
    tasks = _tasks(jobs, settings, journal)
    yield from one_behind(_computed(tasks, open_deblurrer, going_on), _written)


@dataclass(frozen=True, kw_only=True)
class _Task:
    """A picture that is to be computed.

    Attributes:
        job: all of its files.
        left: those of them that are to be written.
        settings: how they are read and written.
        journal: notes the deblurred picture where it replaces the photo.
        watch: times the stages; the thread that reads has it first.
    """

    job: Job
    left: Job
    settings: Settings
    journal: Journal | None
    watch: Stopwatch = field(default_factory=Stopwatch)


def _tasks(
    jobs: Iterable[Job], settings: Settings, journal: Journal | None
) -> Iterator[_Task | Outcome]:
    """What is to be computed, and the outcomes of what is not."""
    for job in jobs:
        left = job.without_existing() if settings.skip_existing else job
        if not left.files:
            yield Outcome(source=job.source, output=job.output, status=SKIPPED)
            continue
        kept = journal if job.in_place else None
        limit = largest_file(settings.max_pixels)
        if kept is not None and kept.noted_before(job.source, limit=limit):
            yield Outcome(source=job.source, output=job.output, status=SKIPPED, replaced=True)
            continue
        yield _Task(job=job, left=left, settings=settings, journal=kept)


def _read(task: _Task | Outcome) -> Photo | None:
    if isinstance(task, Outcome):
        return None
    with task.watch.stage("decode"):
        return read_photo(task.job.source, max_pixels=task.settings.max_pixels)


@dataclass(frozen=True, kw_only=True)
class _Computed:
    """A picture that is to be written.

    Attributes:
        task: what was asked for.
        photo: as it was read.
        result: of the computation.
        deblurrer: who computed it.
    """

    task: _Task
    photo: Photo
    result: Result
    deblurrer: Deblurrer


def _computed(
    tasks: Iterable[_Task | Outcome],
    open_deblurrer: Callable[[], Deblurrer],
    going_on: Callable[[], bool],
) -> Iterator[_Computed | Outcome]:
    """What is to be written, and the outcomes of what is not."""
    deblurrer = None
    # Closed, for a traceback would keep it, and its thread, alive.
    with closing(one_ahead(tasks, _read)) as read:
        for task, reading in read:
            if not going_on():
                return
            if isinstance(task, Outcome):
                yield task
                continue
            if deblurrer is None:
                deblurrer = open_deblurrer()
            try:
                computed: _Computed | Outcome = _compute(task, reading, deblurrer)
            except (M2AError, OSError, MemoryError) as error:
                computed = _failed(task, error)
            yield computed
            # Else they would lie in memory until the next photo is computed.
            del task, reading, computed


def _compute(task: _Task, reading: Future[Photo | None], deblurrer: Deblurrer) -> _Computed:
    photo = reading.result()
    assert photo is not None  # a task is not an outcome
    output = task.left.output
    if output is not None:
        check_encodable(suffix=output.suffix, photo=photo, origin=str(output))
    result = deblurrer(photo.pixels, mask=given_mask(task.settings.mask, photo))
    task.watch.seconds.update(result.seconds)
    return _Computed(task=task, photo=photo, result=result, deblurrer=deblurrer)


def _written(computed: _Computed | Outcome) -> Outcome:
    """Writes what is left of a picture's files."""
    if isinstance(computed, Outcome):
        return computed
    task, photo, result = computed.task, computed.photo, computed.result
    left = task.left
    try:
        for path in left.files.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        with task.watch.stage("encode"):
            write_files(left, task.settings, photo, result, journal=task.journal)
    except (M2AError, OSError, MemoryError) as error:
        return _failed(task, error)
    copied = left.output is not None and is_copied(
        task.settings, photo, mask=result.mask, suffix=left.output.suffix
    )
    return outcome_of(
        task.job, result, computed.deblurrer, seconds=task.watch.seconds, copied=copied
    )


def _failed(task: _Task, error: M2AError | OSError | MemoryError) -> Outcome:
    job = task.job
    reason = reason_of(job.source, error)
    return Outcome(source=job.source, output=job.output, status=FAILED, reason=reason)


def outcome_of(
    job: Job,
    result: Result,
    deblurrer: Deblurrer,
    *,
    seconds: Mapping[str, float],
    copied: bool,
) -> Outcome:
    """The outcome of a picture that is done.

    Args:
        job: its files.
        result: what was computed.
        deblurrer: who computed it.
        seconds: wall time per stage, from reading to writing.
        copied: whether the output is the source, byte for byte.
    """
    return Outcome(
        source=job.source,
        output=job.output,
        status=DONE,
        coverage=result.coverage,
        pixels=result.mask.size,
        highest_probability=result.highest_probability,
        threshold=deblurrer.threshold,
        backend=result.backend,
        precision=deblurrer.precision,
        precision_reason=deblurrer.precision_reason,
        ensemble=deblurrer.ensemble,
        seconds=seconds,
        copied=copied,
    )


def check_plan(plan: Plan, settings: Settings) -> None:
    """Refuses a plan that the settings do not allow, before any work is done.

    Raises:
        ImageNotFoundError: there is none of the pictures.
        UsageError: files exist and are neither to be replaced nor kept, one mask is given for
            several pictures or would be written over, or a quality where no output has one.
        ImageError: a folder that is written into cannot be.
    """
    check_mask_option(settings.mask, photos=len(plan.jobs))
    if plan.jobs and not plan.unreadable and not any(exists(job.source) for job in plan.jobs):
        raise ImageNotFoundError(f"{plan.jobs[0].source}: found no such file, expected a picture")
    for job in plan.jobs:
        for option, path in job.files.items():
            check_not_read(option, path, settings.mask_files)
    if settings.quality is not None and not any(
        job.output is not None and takes_quality(job.output.suffix) for job in plan.jobs
    ):
        raise UsageError(
            f"--quality: found {settings.quality} and outputs that are all lossless, expected one "
            "that is JPEG, WebP or AVIF"
        )
    existing = [] if settings.overwrite or settings.skip_existing else plan.existing
    if existing:
        raise UsageError(
            f"found {_named(existing)} already there, expected names that are free; give "
            "--skip-existing to keep them and write the rest, or --overwrite to replace them"
        )
    _check_folders(plan, settings)


def _check_folders(plan: Plan, settings: Settings) -> None:
    """Refuses folders in which nothing can be created."""
    left = (job.without_existing() if settings.skip_existing else job for job in plan.jobs)
    # One file of each folder: what holds for it, holds for the others.
    tried = {path.parent: path for job in left for path in job.files.values()}
    errors = [error for path in tried.values() if (error := _obstacle(path)) is not None]
    # Where some can be written, the photos of the others fail by themselves.
    if errors and len(errors) == len(tried):
        folder = Path(errors[0].filename).parent
        raise ImageError(f"{folder}: cannot be written: {errors[0].strerror}") from errors[0]


def _obstacle(path: Path) -> OSError | None:
    """What keeps a file from being created, if anything does."""
    try:
        check_writable(path)
    except OSError as error:
        return error
    return None


def _named(files: Sequence[Path]) -> str:
    """The first of several files, and how many there are besides."""
    names = ", ".join(map(str, files[:SHOWN_NAMES]))
    more = len(files) - SHOWN_NAMES
    return f"{names} and {more} more of the files to write" if more > 0 else names


def check_mask_option(mask: str | None, *, photos: int) -> None:
    """Refuses the picture of a mask for several photos.

    Args:
        mask: as in `Settings`.
        photos: how many there are.

    Raises:
        UsageError: one picture is given for several photos.
    """
    if mask not in (None, FULL) and photos > 1:
        raise UsageError(
            f"--mask-in: found the picture {mask} for {photos} photos, "
            f"expected {FULL!r}, or one photo"
        )


def given_mask(mask: str | None, photo: Photo) -> NDArray[np.bool_] | None:
    """The mask [H, W] that the settings give for a photo, or None if it is to be predicted.

    Raises:
        ImageError, UsageError: as `read_mask`.
    """
    shape = (photo.pixels.shape[0], photo.pixels.shape[1])
    if mask is None:
        return None
    if mask == FULL:
        return np.ones(shape, bool)
    return read_mask(Path(mask), shape=shape)
