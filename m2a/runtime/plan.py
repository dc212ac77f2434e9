"""Which pictures are read and which files are written for them, decided before any work is done.

Nothing here opens a picture: the names and the folders alone decide.
"""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from m2a.errors import UsageError
from m2a.runtime.decoding import INPUT_SUFFIXES
from m2a.runtime.encoding import OUTPUT_SUFFIXES, check_encodable

__all__ = [
    "PICTURES",
    "STREAM",
    "VIDEO_SUFFIXES",
    "Job",
    "Plan",
    "check_not_read",
    "exists",
    "is_one_video",
    "names_folder",
    "output_name",
    "pictures_in",
    "plan_jobs",
    "takes_one_file",
]

STREAM = "-"
"""The word for standard input or standard output."""

PICTURES = ("mask", "compare", "motion")
"""What can be written beside the deblurred picture, in the order in which it is written."""

DEFAULT_SUFFIX = ".png"
"""The output's suffix where the source's cannot be written."""

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
"""By which a video is told from a picture, in lower case. One is given alone: in a folder only
pictures are taken."""


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
        return self.output is not None and _identity(self.output) == _identity(self.source)

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
    """

    jobs: tuple[Job, ...]
    unreadable: Mapping[Path, str] = field(default_factory=dict)

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
    if len(inputs) != 1 or _is_folder(inputs[0]) or _is_pattern(inputs[0]):
        return False
    return STREAM in (inputs[0], output) or not names_folder(output)


def is_one_video(inputs: Sequence[str]) -> bool:
    """Whether there is one input, which is a video by its name, and no folder or pattern."""
    if len(inputs) != 1 or _is_folder(inputs[0]) or _is_pattern(inputs[0]):
        return False
    return _is_video(inputs[0])


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
    apart = [_identity(folder) for folder in folders.values()]
    found: list[tuple[Path, Path]] = []
    unreadable: dict[Path, str] = {}
    for text in inputs:
        found += _sources(text, recursive=recursive, apart=apart, unreadable=unreadable)
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
    plan = Plan(jobs=tuple(_without_repetition(jobs)), unreadable=unreadable)
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
        if _is_folder(str(folder)):
            continue
        if exists(folder):
            raise UsageError(f"{option}: found the file {folder}, expected a folder for {several}")
        written_so = option == "-o" and names_folder(output)
        if folder.suffix.lower() in OUTPUT_SUFFIXES and not written_so:
            raise UsageError(
                f"{option}: found {folder}, the name of a picture, expected a folder for {several}"
            )


def _sources(
    text: str, *, recursive: bool, apart: Sequence[str], unreadable: dict[Path, str]
) -> list[tuple[Path, Path]]:
    """One input's pictures and their paths below the output; notes the unreadable folders."""
    if _is_folder(text):
        folder = Path(text)
        before = len(unreadable)
        found = list(pictures_in(folder, recursive, apart, unreadable))
        if not found and len(unreadable) == before:
            deeper = "" if recursive else "; --recursive looks into its folders too"
            raise UsageError(
                f"{folder}: found no picture, expected files that end in "
                f"{', '.join(INPUT_SUFFIXES)}{deeper}"
            )
        return [(path, path.relative_to(folder)) for path in found]
    if _is_pattern(text):
        matches = list(_matches(text, apart))
        if not matches:
            raise UsageError(f"{text}: found no file of such a name, expected at least one")
        for match in matches:
            _check_picture(str(match))
        return [(path, Path(path.name)) for path in matches]
    _check_picture(text)
    return [(Path(text), Path(Path(text).name))]


def _check_picture(text: str) -> None:
    if _is_video(text):
        raise UsageError(
            f"{text}: found a video, expected pictures; a video is given alone, by its own name"
        )


def pictures_in(
    folder: Path, recursive: bool, apart: Sequence[str], unreadable: dict[Path, str]
) -> Iterator[Path]:
    """The pictures of a folder by their suffixes, in order; hidden ones are left out.

    Args:
        folder: where to look.
        recursive: look into its folders too; links to folders are not followed.
        apart: real paths of folders that are not looked into.
        unreadable: takes the folders that cannot be looked into, and why.
    """

    def note(error: OSError) -> None:
        unreadable[Path(error.filename)] = f"cannot be read: {error.strerror}"

    for name, subfolders, files in os.walk(folder, onerror=note):
        here = Path(name)
        subfolders[:] = [
            subfolder
            for subfolder in sorted(subfolders)
            if recursive
            and not subfolder.startswith(".")
            and _identity(here / subfolder) not in apart
        ]
        for file in sorted(files):
            if not file.startswith(".") and Path(file).suffix.lower() in INPUT_SUFFIXES:
                yield here / file


def _matches(pattern: str, apart: Sequence[str]) -> Iterator[Path]:
    """The files that a pattern matches; nothing in the folders `apart` that lie below its root."""
    literal = itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts)
    root = _prefix(_identity(Path(*literal)))
    below = tuple(_prefix(folder) for folder in apart if folder.startswith(root))
    # Not `Path.glob`, which refuses a pattern that begins at the root.
    for match in sorted(map(Path, glob.glob(pattern, recursive=True))):  # noqa: PTH207
        if match.is_file() and not _identity(match).startswith(below):
            yield match


def _without_repetition(jobs: Iterable[Job]) -> Iterator[Job]:
    """The jobs less those that do over again what one before them does."""
    seen = set()
    for job in jobs:
        identity = (_identity(job.source), job.output)
        if identity not in seen:
            seen.add(identity)
            yield job


def _check_distinct(jobs: Sequence[Job]) -> None:
    sources = {_identity(job.source): job.source for job in jobs}
    writers: dict[str, Job] = {}
    for job in jobs:
        for option, path in job.files.items():
            identity = _identity(path)
            other = writers.setdefault(identity, job)
            if other is not job:
                raise UsageError(
                    f"{path} would be written twice, for {other.source} and for {job.source}; "
                    "take folders of their own, or a folder and --recursive, which keeps its tree"
                )
            if identity in sources and (option != "-o" or identity != _identity(job.source)):
                raise UsageError(
                    f"{option}: {path} would be written for {job.source} over the input "
                    f"{sources[identity]}; take another folder"
                )
        if len({_identity(path) for path in job.files.values()}) < len(job.files):
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
        if _identity(path) == _identity(output):
            raise UsageError(f"{option} names {path}, which is to be read; expected another name")


def exists(path: Path) -> bool:
    """Whether there is something of that name; of a name too long for the system there is not."""
    try:
        return path.exists()
    except OSError:
        return False


def names_folder(text: str) -> bool:
    """Whether an output is a folder, or written like one with a separator at its end."""
    separators = tuple(filter(None, (os.sep, os.altsep)))
    return _is_folder(text) or text.endswith(separators)


def _is_folder(text: str) -> bool:
    try:
        return bool(text) and Path(text).is_dir()
    except OSError:
        return False


def _is_video(text: str) -> bool:
    return Path(text).suffix.lower() in VIDEO_SUFFIXES


def _is_pattern(text: str) -> bool:
    return glob.has_magic(text) and not os.path.lexists(text)


def _prefix(folder: str) -> str:
    """What the names of all that lies below a folder begin with."""
    return folder.rstrip(os.sep) + os.sep


def _identity(path: Path) -> str:
    """Equal for two names of one place."""
    return os.path.normcase(os.path.realpath(path))
