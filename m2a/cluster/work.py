"""Which photos are left to do, decided from names, the manifest and what exists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from m2a.cluster.manifest import Manifest
from m2a.cluster.places import Listing, Place
from m2a.cluster.recipe import Recipe
from m2a.errors import UsageError
from m2a.runtime.decoding import INPUT_SUFFIXES
from m2a.runtime.encoding import takes_quality
from m2a.runtime.plan import output_name
from m2a.runtime.settings import Settings

__all__ = ["Task", "Work", "plan_work"]

KEPT = "exists already; kept by --skip-existing"


class Task(NamedTuple):
    """A photo to deblur.

    Attributes:
        source: its name, relative to the place that is read.
        output: of the deblurred photo, relative to the place that is written into.
    """

    source: str
    output: str


@dataclass(frozen=True)
class Work:
    """What a run comes to.

    Attributes:
        tasks: the photos to deblur; no two write one file.
        skipped: photo that is left alone → why.
        unreadable: folders that could not be looked into, and why.
    """

    tasks: Sequence[Task]
    skipped: Mapping[Task, str]
    unreadable: Mapping[str, str]

    @property
    def total(self) -> int:
        """All rows that the report will have."""
        return len(self.tasks) + len(self.skipped) + len(self.unreadable)


def plan_work(
    source: Place, destination: Place, recipe: Recipe, settings: Settings, *, recursive: bool
) -> tuple[Work, Manifest]:
    """Lays out a run; nothing is read but names and the manifest.

    An output that the same recipe made is skipped, whatever else is asked for. One that exists and
    was made otherwise, or by nobody that is known, is replaced (`overwrite`), kept
    (`skip_existing`), or refused.

    Raises:
        UsageError: there is no photo; outputs exist that are neither to be replaced nor kept; two
            photos would write one file; one place lies in the other so that photos would be
            written over; a quality where no output has one.
        ClusterError: a place cannot be listed, or the manifest is damaged.
    """
    _check_apart(source, destination)
    listing = source.pictures(recursive=recursive, apart=destination)
    _check_found(source, listing, recursive=recursive)
    tasks = _tasks(listing.names, recipe.suffix)
    _check_quality(tasks, settings)
    manifest = Manifest.read(destination)
    existing = destination.existing(task.output for task in tasks)
    left: list[Task] = []
    skipped: dict[Task, str] = {}
    in_the_way: list[str] = []
    for task in tasks:
        made = manifest.outputs.get(task.output)
        if task.output not in existing or (made is not None and not made.done):
            left.append(task)
        elif made is not None and made.recipe == recipe.sha256:
            skipped[task] = f"done by run {made.run}"
        elif settings.overwrite:
            left.append(task)
        elif settings.skip_existing:
            skipped[task] = KEPT
        else:
            in_the_way.append(task.output)
    if in_the_way:
        raise _refused(destination, in_the_way, manifest)
    return Work(left, skipped, listing.unreadable), manifest


def _check_apart(source: Place, destination: Place) -> None:
    if destination.holds(source) is None:
        return
    raise UsageError(
        f"-o: found {destination.shown()}, which is or holds {source.shown()}, expected a folder "
        "apart: --ray replaces no photo by its result; m2a run without it does"
    )


def _check_found(source: Place, listing: Listing, *, recursive: bool) -> None:
    if listing.names or listing.unreadable:
        return
    deeper = "" if recursive else "; --recursive looks into its folders too"
    raise UsageError(
        f"{source.shown()}: found no picture, expected files that end in "
        f"{', '.join(INPUT_SUFFIXES)}{deeper}"
    )


def _tasks(names: Sequence[str], suffix: str | None) -> list[Task]:
    writers: dict[str, str] = {}
    for name in names:
        output = output_name(Path(name), suffix).as_posix()
        other = writers.setdefault(output, name)
        if other != name:
            raise UsageError(
                f"{output} would be written twice, for {other} and for {name}; take folders of "
                "their own"
            )
    return [Task(name, output) for output, name in writers.items()]


def _check_quality(tasks: Sequence[Task], settings: Settings) -> None:
    if settings.quality is None or not tasks:
        return
    if not any(takes_quality(PurePosixPath(task.output).suffix) for task in tasks):
        raise UsageError(
            f"--quality: found {settings.quality} and outputs that are all lossless, expected one "
            "that is JPEG, WebP or AVIF"
        )


def _refused(destination: Place, names: Sequence[str], manifest: Manifest) -> UsageError:
    stale = sum(name in manifest.outputs for name in names)
    return UsageError(
        f"{destination.shown(names[0])}: found {len(names)} of the files to write there already, "
        f"{stale} of them made by another model or other options, expected new names or a folder "
        "of its own; give --skip-existing to keep them or --overwrite to replace them"
    )
