"""Which pictures the names of files, folders and patterns stand for.

Nothing here opens a picture: the names and the folders alone decide.
"""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from m2a.errors import UsageError, number_of
from m2a.runtime.decoding import INPUT_SUFFIXES

__all__ = [
    "VIDEO_SUFFIXES",
    "PassedOver",
    "Search",
    "identity",
    "is_folder",
    "is_pattern",
    "is_video",
]

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
"""By which a video is told from a picture, in lower case. One is given alone: in a folder only
pictures are taken."""


@dataclass(frozen=True, kw_only=True)
class PassedOver:
    """What lies in folders and was not taken; hidden files and folders do not count.

    Attributes:
        folders: that were not looked into, for that was not asked for.
        others: files of other kinds than pictures.
    """

    folders: int = 0
    others: tuple[Path, ...] = ()

    def __str__(self) -> str:
        parts = []
        if self.folders:
            parts.append(f"{number_of(self.folders, 'folder')} not looked into (--recursive)")
        if self.others:
            parts.append(f"{number_of(len(self.others), 'file')} of other kinds passed over")
        return ", ".join(parts)


class Search:
    """The pictures of inputs, and what was met on the way to them."""

    def __init__(self, *, recursive: bool, apart: Sequence[str] = ()) -> None:
        self._recursive, self._apart = recursive, apart
        self.unreadable: dict[Path, str] = {}
        self._folders = 0
        self._others: list[Path] = []

    @property
    def passed_over(self) -> PassedOver:
        """What was met so far and not taken."""
        return PassedOver(folders=self._folders, others=tuple(self._others))

    def sources(self, text: str) -> list[tuple[Path, Path]]:
        """One input's pictures and their paths below the output."""
        if is_folder(text):
            return self._folder(Path(text))
        if is_pattern(text):
            matches = list(_matches(text, self._apart))
            if not matches:
                raise UsageError(f"{text}: found no file of such a name, expected at least one")
            for match in matches:
                _check_picture(str(match))
            return [(path, Path(path.name)) for path in matches]
        _check_picture(text)
        return [(Path(text), Path(Path(text).name))]

    def _folder(self, folder: Path) -> list[tuple[Path, Path]]:
        before = len(self.unreadable)
        found = list(self.pictures_in(folder))
        if not found and len(self.unreadable) == before:
            deeper = "" if self._recursive else "; --recursive looks into its folders too"
            raise UsageError(
                f"{folder}: found no picture, expected files that end in "
                f"{', '.join(INPUT_SUFFIXES)}{deeper}"
            )
        return [(path, path.relative_to(folder)) for path in found]

    def pictures_in(self, folder: Path) -> Iterator[Path]:
        """The pictures of a folder by their suffixes, in order; hidden ones are left out."""
        for name, subfolders, files in os.walk(folder, onerror=self._note):
            here = Path(name)
            own = [
                subfolder
                for subfolder in sorted(subfolders)
                if not subfolder.startswith(".") and identity(here / subfolder) not in self._apart
            ]
            subfolders[:] = own if self._recursive else []
            self._folders += len(own) - len(subfolders)
            for file in sorted(file for file in files if not file.startswith(".")):
                if Path(file).suffix.lower() in INPUT_SUFFIXES:
                    yield here / file
                else:
                    self._others.append(here / file)

    def _note(self, error: OSError) -> None:
        self.unreadable[Path(error.filename)] = f"cannot be read: {error.strerror}"


def _check_picture(text: str) -> None:
    if is_video(text):
        raise UsageError(
            f"{text}: found a video, expected pictures; a video is given alone, by its own name"
        )


def _matches(pattern: str, apart: Sequence[str]) -> Iterator[Path]:
    """The files that a pattern matches; nothing in the folders `apart` that lie below its root."""
    literal = itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts)
    root = _prefix(identity(Path(*literal)))
    below = tuple(_prefix(folder) for folder in apart if folder.startswith(root))
    # Not `Path.glob`, which refuses a pattern that begins at the root.
    for match in sorted(map(Path, glob.glob(pattern, recursive=True))):  # noqa: PTH207
        if match.is_file() and not identity(match).startswith(below):
            yield match


def is_folder(text: str) -> bool:
    """Whether a folder of that name is there."""
    try:
        return bool(text) and Path(text).is_dir()
    except OSError:
        return False


def is_video(text: str) -> bool:
    """Whether it is the name of a video."""
    return Path(text).suffix.lower() in VIDEO_SUFFIXES


def is_pattern(text: str) -> bool:
    """Whether it is a glob pattern, and not the name of something that is there."""
    return glob.has_magic(text) and not os.path.lexists(text)


def _prefix(folder: str) -> str:
    """What the names of all that lies below a folder begin with."""
    return folder.rstrip(os.sep) + os.sep


def identity(path: Path) -> str:
    """Equal for two names of one place."""
    return os.path.normcase(os.path.realpath(path))
