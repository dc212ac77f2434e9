"""A folder to read from or write into: on this machine, or in an object store.

Object stores are reached by pyarrow's own file systems (`s3://`, `gs://`, `abfss://`, `hdfs://`),
other addresses by fsspec's, whose packages must be installed. Credentials come from the
environment, as their libraries look for them; an address that holds some is refused, for it would
be shown.
"""

from __future__ import annotations

import functools
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from m2a.cluster.names import check_name, is_hidden, is_unicode
from m2a.errors import ClusterError, UsageError, on_one_line
from m2a.files import atomic_write, read_regular
from m2a.runtime.decoding import INPUT_SUFFIXES
from m2a.runtime.search import Search

__all__ = ["Listing", "Place", "is_address"]

_PUTS = ("s3", "gcs", "abfs")
"""File systems where an object becomes visible as a whole when its writer closes it."""


class Listing(NamedTuple):
    """What was found in a place.

    Attributes:
        names: pictures, relative to the place, with forward slashes, in order.
        unreadable: folders that could not be looked into, and names that are refused, and why.
    """

    names: list[str]
    unreadable: dict[str, str]


def is_address(text: str) -> bool:
    """Whether a text is a URI such as `s3://bucket/folder`, and not a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None


@dataclass(frozen=True)
class Place:
    """A folder by its address; pickled, it is opened anew in the process that receives it.

    Attributes:
        address: an absolute path, or a URI.
    """

    address: str

    @classmethod
    def of(cls, text: str, *, option: str) -> Place:
        """The place that an argument names; nothing is opened yet.

        Args:
            text: a path, or a URI.
            option: what the argument is called in messages.

        Raises:
            UsageError: the URI holds credentials.
        """
        if not is_address(text):
            return cls(os.path.abspath(text))  # noqa: PTH100 - a text, also where links lead on
        parts = urlsplit(text)
        if parts.scheme == "file":
            return cls(os.path.abspath(unquote(parts.path)))  # noqa: PTH100
        secret = parts.scheme in ("s3", "gs") and parts.username not in (None, "", "anonymous")
        if parts.password is not None or secret:
            raise UsageError(
                f"{option}: found credentials in an address of {parts.scheme}://, expected them in "
                "the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        return cls(text)

    @property
    def folder(self) -> Path | None:
        """The folder on this machine; None in an object store."""
        return None if is_address(self.address) else Path(self.address)

    def shown(self, name: str = "") -> str:
        """The whole name of a file for people and reports, without the address' query."""
        if self.folder is not None:
            return str(self.folder / name)
        base = self.address.split("?")[0].rstrip("/")
        return f"{base}/{name}" if name else base

    def holds(self, other: Place) -> str | None:
        """Where another place lies below this one; empty if it is the same, None if it is apart."""
        if (self.folder is None) != (other.folder is None):
            return None
        if self.folder is not None:
            here, there = os.path.realpath(self.address), os.path.realpath(other.address)
            here, there = here.replace(os.sep, "/"), there.replace(os.sep, "/")
        else:
            (system, here), (other_system, there) = _opened(self.address), _opened(other.address)
            if not system.equals(other_system):
                return None
        return f"{there}/".removeprefix(f"{here}/") if f"{there}/".startswith(f"{here}/") else None

    def pictures(self, *, recursive: bool, apart: Place) -> Listing:
        """Looks for pictures as `m2a run` does: by their suffixes, and nothing that is hidden.

        Args:
            recursive: look into the folders of the folder too.
            apart: a place that is left out where it lies below this one.

        Raises:
            UsageError: there is no such folder.
            ClusterError: the object store cannot be reached.
        """
        if self.folder is not None:
            return self._local_pictures(self.folder, recursive=recursive, apart=apart)
        below = self.holds(apart)
        names, unreadable = [], {}
        for name in self._objects("", recursive=recursive):
            other = PurePosixPath(name).suffix.lower() not in INPUT_SUFFIXES
            if other or is_hidden(name) or (below and name.startswith(below)):
                continue
            try:
                check_name(name)
            except UsageError as error:
                unreadable[on_one_line(self.shown(name))] = str(error)
            else:
                names.append(name)
        return Listing(sorted(names), unreadable)

    def _local_pictures(self, folder: Path, *, recursive: bool, apart: Place) -> Listing:
        if not folder.is_dir():
            found = "a file" if folder.exists() else "nothing"
            raise UsageError(f"{folder}: found {found} there, expected a folder for --ray")
        left_out = (
            [] if apart.folder is None else [os.path.normcase(os.path.realpath(apart.folder))]
        )
        names = []
        search = Search(recursive=recursive, apart=left_out)
        unreadable = search.unreadable
        for path in search.pictures_in(folder):
            name = path.relative_to(folder).as_posix()
            if name.isascii() or is_unicode(name):
                names.append(name)
            else:
                unreadable[path] = "found a name that is not UTF-8; rename it"
        return Listing(names, {on_one_line(path): why for path, why in unreadable.items()})

    def existing(self, names: Iterable[str]) -> set[str]:
        """Which of these files are there: asked one by one on this machine, listed elsewhere.

        Raises:
            UsageError: as `check_name`.
            ClusterError: the object store cannot be reached.
        """
        names = list(names)
        for name in names:
            check_name(name)
        if self.folder is not None:
            folder = self.address
            return {name for name in names if os.path.exists(f"{folder}/{name}")}  # noqa: PTH110
        return set(names).intersection(self._objects("", recursive=True))

    def files(self, folder: str) -> list[str]:
        """All files below a folder of the place, relative to the place, in order."""
        if self.folder is None:
            return sorted(f"{folder}/{name}" for name in self._objects(folder, recursive=True))
        found = (self.folder / folder).rglob("*")
        return sorted(path.relative_to(self.folder).as_posix() for path in found if path.is_file())

    def read(self, name: str, *, limit: int) -> bytes:
        """Reads a file whole.

        Raises:
            OSError: it cannot be read, or is longer than `limit` bytes.
        """
        if self.folder is not None:
            return read_regular(self.folder / name, limit=limit)
        system, root = _opened(self.address)
        with system.open_input_file(f"{root}/{name}") as stream:
            if stream.size() > limit:
                raise OSError(f"longer than {limit} bytes")
            content: bytes = stream.read()
        return content

    def write(self, name: str, data: bytes) -> None:
        """Writes a file such that a reader sees the old one or the whole new one.

        Its folder is created. On this machine it is renamed into place; an object is put at once.

        Raises:
            OSError, UsageError: it cannot be written, or has a name that `check_name` refuses.
        """
        check_name(name)
        if self.folder is not None:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, data, overwrite=True)
            return
        system, root = _opened(self.address)
        target = f"{root}/{name}"
        if system.type_name in _PUTS:
            _put(system, target, data)
            return
        parent = target.rsplit("/", 1)[0]
        temporary = f"{parent}/.m2a-{secrets.token_hex(8)}.tmp"
        system.create_dir(parent, recursive=True)
        _put(system, temporary, data)
        if system.get_file_info(target).type == fs.FileType.File:
            system.delete_file(target)  # not all of them replace what is there
        system.move(temporary, target)

    def remove_unfinished(self, *, since: float) -> None:
        """Removes what killed writers left on this machine: no other writer may be at work.

        Args:
            since: time in seconds since the epoch; what is older is somebody else's.
        """
        if self.folder is None:
            return
        for path in self.folder.rglob(".m2a-*.tmp"):
            # An actor that is still about to end may rename it meanwhile.
            with suppress(FileNotFoundError):
                if path.stat().st_mtime >= since:
                    path.unlink()

    def _objects(self, folder: str, *, recursive: bool) -> Iterator[str]:
        system, root = _opened(self.address)
        base = f"{root}/{folder}" if folder else root
        try:
            selector = fs.FileSelector(base, recursive=recursive, allow_not_found=True)
            found = system.get_file_info(selector)
        except OSError as error:
            raise ClusterError(f"{self.shown(folder)}: cannot be listed: {error}") from error
        start = len(base) + 1
        return (info.path[start:] for info in found if info.type == fs.FileType.File)


def _put(system: fs.FileSystem, path: str, data: bytes) -> None:
    with system.open_output_stream(path) as stream:
        stream.write(data)


@functools.cache
def _opened(address: str) -> tuple[Any, str]:
    """The file system of a URI and the path of the folder in it."""
    scheme = address.split(":")[0]
    if scheme == "s3":
        # One request for a file of up to 5 MiB, instead of three.
        address += f"{'&' if '?' in address else '?'}allow_delayed_open=true"
    try:
        system, root = fs.FileSystem.from_uri(address)
    except pa.ArrowInvalid as error:
        if "Unrecognized filesystem type" not in str(error):
            raise UsageError(f"{scheme}://: found an address that is none: {error}") from error
        system, root = _by_fsspec(address, scheme)
    except OSError as error:
        raise ClusterError(f"{address.split('?')[0]}: cannot be opened: {error}") from error
    return system, root.rstrip("/")


def _by_fsspec(address: str, scheme: str) -> tuple[Any, str]:
    import fsspec

    try:
        system, root = fsspec.core.url_to_fs(address)
    except ValueError as error:
        raise UsageError(
            f"{scheme}://: found an address of an unknown kind, expected a folder, s3://, gs://, "
            f"abfss://, hdfs:// or one that fsspec knows ({error})"
        ) from error
    except ImportError as error:
        raise UsageError(f"{scheme}://: cannot be opened: {error}") from error
    return fs.PyFileSystem(fs.FSSpecHandler(system)), root
