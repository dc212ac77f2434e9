"""Which pictures are read and which files are written for them, decided before any work is done.

Nothing here opens a picture: the names and the folders alone decide.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from m2a.errors import UsageError
from m2a.runtime.decoding import INPUT_SUFFIXES
from m2a.runtime.encoding import OUTPUT_SUFFIXES, check_encodable
from m2a.runtime.search import PassedOver, Search, identity, is_folder, is_pattern, is_video

__all__ = [
    "PICTURES",
    "STREAM",
    "Job",
    "Plan",
    "check_named",
    "check_not_read",
    "exists",
    "is_one_video",
    "names_folder",
    "output_name",
    "plan_jobs",
    "takes_one_file",
]

STREAM = "-"
"""The word for standard input or standard output."""

PICTURES = ("mask", "compare", "motion")
"""What can be written beside the deblurred picture, in the order in which it is written."""

DEFAULT_SUFFIX = ".png"
"""The output's suffix where the source's cannot be written."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One picture to deblur, and the files to write for it.

    Attributes:
        source: the picture to read.
        output: the deblurred picture to write; None where no file is to be written.
        pictures: those of `PICTURES` that are wanted, and the PNG files to write.
    """

    source: Path
    output: Path | None
    pictures: Mapping[str, Path] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, Path]:
        """The option that asks for a file → the file, in the order in which they are written."""
        first = {} if self.output is None else {"-o": self.output}
        wanted = (name for name in PICTURES if name in self.pictures)
        return first | {f"--{name}-out": self.pictures[name] for name in wanted}

    @property
    def in_place(self) -> bool:
        """Whether the output replaces the source."""
        return self.output is not None and identity(self.output) == identity(self.source)

    def without_existing(self) -> Job:
        """The job less the files that are there already."""
        output = self.output
        return replace(
            self,
            output=None if output is not None and exists(output) else output,
            pictures={name: path for name, path in self.pictures.items() if not exists(path)},
        )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a folder, several files or a pattern come to.

    Attributes:
        jobs: one a picture, in the order of the inputs, a folder's by name. No two write one file.
        unreadable: folders that could not be looked into, and why.
        passed_over: what lies in the folders and was not taken.
        alone: whether it is one file that was named, neither a folder nor a pattern.
    """

    jobs: tuple[Job, ...]
    unreadable: Mapping[Path, str] = field(default_factory=dict)
    passed_over: PassedOver = field(default_factory=PassedOver)
    alone: bool = False

    @property
    def existing(self) -> list[Path]:
        """The files to write that are there already."""
        return [path for path in self._files() if exists(path)]

    @property
    def complete(self) -> bool:
        """Whether all files to write are there already."""
        return all(exists(path) for path in self._files())

    def _files(self) -> Iterator[Path]:
        return (path for job in self.jobs for path in job.files.values())


def takes_one_file(inputs: Sequence[str], output: str) -> bool:
    """Whether the output is the name of one file, and not of a folder to write into.

    It is where there is one input that is neither a folder nor a pattern, and the output is not
    an existing folder or written like one, with a separator at its end.
    """
    if not _is_one_file(inputs):
        return False
    return STREAM in (inputs[0], output) or not names_folder(output)


def is_one_video(inputs: Sequence[str]) -> bool:
    """Whether there is one input, which is a video by its name, and no folder or pattern."""
    return _is_one_file(inputs) and is_video(inputs[0])


def _is_one_file(inputs: Sequence[str]) -> bool:
    return len(inputs) == 1 and not is_folder(inputs[0]) and not is_pattern(inputs[0])


def plan_jobs(
    inputs: Sequence[str],
    output: str,
    *,
    pictures: Mapping[str, Path] | None = None,
    recursive: bool = False,
    suffix: str | None = None,
) -> Plan:
    """Lays out the jobs of several pictures.

    Args:
        inputs: files, folders and glob patterns. What exists is taken by its name, even if it
            looks like a pattern. Of a folder, files with one of `INPUT_SUFFIXES` are taken; hidden
            files and folders are not, nor are the folders that are written into where they lie
            below it, nor videos. A file named twice is one input.
        output: the folder to write into, which need not exist.
        pictures: those of `PICTURES` that are wanted, and the folders to write them into.
        recursive: look into the subfolders of folders too; below the output their tree is the
            same. Links to folders are not followed.
        suffix: the outputs' suffix; None leaves the source's, or `.png` where it cannot be written.

    Returns:
        The `Plan`. No folder was created and no picture was read: a file that is missing or
        damaged is a job that will fail.

    Raises:
        UsageError: an input holds no picture or cannot be part of several (a stream, a video), the
            output is not a folder, the suffix is not supported, or one file would be written twice
            or over an input that is not its own.
    """
    if suffix is not None:
        check_encodable(suffix=suffix, origin="--suffix")
    folders = {"-o": Path(output)}
    folders |= {f"--{name}-out": folder for name, folder in (pictures or {}).items()}
    _check_folders(inputs, output, folders)
    apart = [identity(folder) for folder in folders.values()]
    found: list[tuple[Path, Path]] = []
    search = Search(recursive=recursive, apart=apart)
    for text in inputs:
        found += search.sources(text)
    jobs = [
        Job(
            source=source,
            output=Path(output) / output_name(relative, suffix),
            pictures={
                name: folder / output_name(relative, DEFAULT_SUFFIX)
                for name, folder in (pictures or {}).items()
            },
        )
        for source, relative in found
    ]
    plan = Plan(
        jobs=tuple(_without_repetition(jobs)),
        unreadable=search.unreadable,
        passed_over=search.passed_over,
        alone=_is_one_file(inputs),
    )
    _check_distinct(plan.jobs)
    return plan


def output_name(source: Path, suffix: str | None) -> Path:
    """The output's path for a source's, both relative to their folders.

    Args:
        source: the picture to read.
        suffix: the suffix asked for; None keeps the source's where it can be written, else `.png`.

    Returns:
        The same path, its suffix replaced if it is that of a picture and appended to if not.
    """
    own = source.suffix.lower()
    wanted = suffix or (own if own in OUTPUT_SUFFIXES else DEFAULT_SUFFIX)
    if own == wanted.lower():
        return source
    if own in INPUT_SUFFIXES:
        return source.with_suffix(wanted)
    return source.with_name(source.name + wanted)


def _check_folders(inputs: Sequence[str], output: str, folders: Mapping[str, Path]) -> None:
    """Refuse what can only be meant for one file."""
    several = f"{len(inputs)} inputs" if len(inputs) > 1 else repr(inputs[0])
    if STREAM in inputs:
        raise UsageError(f"found standard input (-) among {several}, expected it alone")
    if "" in inputs:
        raise UsageError("found an empty name, expected a picture, a folder or a pattern")
    if output == STREAM:
        raise UsageError(f"-o: found standard output (-) for {several}, expected a folder")
    for option, folder in folders.items():
        if is_folder(str(folder)):
            continue
        if exists(folder):
            raise UsageError(f"{option}: found the file {folder}, expected a folder for {several}")
        written_so = option == "-o" and names_folder(output)
        if folder.suffix.lower() in OUTPUT_SUFFIXES and not written_so:
            raise UsageError(
                f"{option}: found {folder}, the name of a picture, expected a folder for {several}"
            )


def _without_repetition(jobs: Iterable[Job]) -> Iterator[Job]:
    """The jobs less those that do over again what one before them does."""
    seen = set()
    for job in jobs:
        place = (identity(job.source), job.output)
        if place not in seen:
            seen.add(place)
            yield job


def _check_distinct(jobs: Sequence[Job]) -> None:
    sources = {identity(job.source): job.source for job in jobs}
    writers: dict[str, Job] = {}
    for job in jobs:
        for option, path in job.files.items():
            place = identity(path)
            other = writers.setdefault(place, job)
            if other is not job:
                raise UsageError(
                    f"{path} would be written twice, for {other.source} and for {job.source}; "
                    "take folders of their own, or a folder and --recursive, which keeps its tree"
                )
            if place in sources and (option != "-o" or place != identity(job.source)):
                raise UsageError(
                    f"{option}: {path} would be written for {job.source} over the input "
                    f"{sources[place]}; take another folder"
                )
        if len({identity(path) for path in job.files.values()}) < len(job.files):
            raise UsageError(
                f"{' and '.join(job.files)} would write one file for {job.source}; "
                "take folders of their own"
            )


def check_not_read(option: str, output: Path, read: Iterable[Path]) -> None:
    """Refuses to write over a file that is to be read.

    Args:
        option: the option that names the output, for the message.
        output: the file to write.
        read: the files to read.

    Raises:
        UsageError: the output is one of them.
    """
    for path in read:
        if identity(path) == identity(output):
            raise UsageError(f"{option} names {path}, which is to be read; expected another name")


def check_named(output: Path) -> None:
    """Refuses the name of one file that has no suffix, which may be meant for a folder.

    Raises:
        UsageError: the name has no suffix.
    """
    if not output.suffix:
        raise UsageError(
            f"-o {output}: found a name without a suffix, expected a file's, whose suffix names "
            f"the format, such as {output}.png, or a folder's, which ends with /, as in {output}/"
        )


def exists(path: Path) -> bool:
    """Whether there is something of that name; of a name too long for the system there is not."""
    try:
        return path.exists()
    except OSError:
        return False


def names_folder(text: str) -> bool:
    """Whether an output is a folder, or written like one with a separator at its end."""
    separators = tuple(filter(None, (os.sep, os.altsep)))
    return is_folder(text) or text.endswith(separators)
