"""What was deblurred in place, so that an interrupted run goes on without doing it a second time.

A photo that is replaced by its deblurred self cannot be told from one that is still to be done. So
the hash of each new file stands in a journal, on the disk, before the file takes its place. After a
crash at any moment a photo is either still the old one, whose hash is not in the journal, or the
new one, whose hash is. A photo that was put there since has another hash and is done.

Two runs at once would each deblur what the other has replaced, so a run holds a lock on the journal
from its beginning to its end.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from pathlib import Path
from types import TracebackType

from m2a.errors import ImageError
from m2a.files import read_regular

__all__ = ["JOURNAL", "Journal"]

JOURNAL = ".m2a-journal"
"""The journal's name, in the folder that the outputs are written into. It is a line of text a file:
the SHA-256 of its content."""

_LIMIT = 2**30


class Journal:
    """The journal of one folder, locked until it is closed or removed.

    Closing keeps the file if anything stands in it.

    Attributes:
        path: the file.

    Raises:
        ImageError: another run holds it, or it cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL
        try:
            self._lock: int | None = _locked(self.path)
            try:
                lines = read_regular(self.path, limit=_LIMIT).split()
            except BaseException:
                self._release(remove=False)
                raise
        except BlockingIOError as error:
            raise ImageError(
                f"{self.path}: found another run that deblurs photos in place here, expected one "
                "at a time; wait for its end"
            ) from error
        except OSError as error:
            raise ImageError(
                f"{self.path}: cannot be read and written ({error.strerror}), expected the journal "
                "of an interrupted run, or none; delete it to deblur all photos of the folder "
                "(again)"
            ) from error
        self._hashes = frozenset(lines)
        self.empty = not lines
        """Whether nothing stands in it."""

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._release(remove=self.empty)

    def noted_before(self, path: Path, *, limit: int) -> bool:
        """Whether a file is one that an earlier run noted, by its content.

        What this run notes does not count: a photo may well look as another one does afterwards.

        Args:
            path: the file; one that cannot be read was not noted.
            limit: the most bytes that are read; a longer file was not noted.
        """
        if not self._hashes:
            return False
        try:
            return _hash(read_regular(path, limit=limit)) in self._hashes
        except OSError:
            return False

    def note(self, content: bytes) -> None:
        """Notes the content of a file that is about to be written.

        Raises:
            OSError: the note cannot be brought to the disk.
        """
        self.empty = False
        with self.path.open("ab") as stream:
            # The line before may have been cut off where the disk was full.
            stream.write(b"\n" + _hash(content) + b"\n")
            stream.flush()
            os.fsync(stream.fileno())

    def remove(self) -> None:
        """Removes the file: all is done, and the next run begins anew."""
        self._release(remove=True)

    def _release(self, *, remove: bool) -> None:
        if self._lock is None:
            return
        if remove and sys.platform != "win32":
            self.path.unlink(missing_ok=True)  # while it is locked
        os.close(self._lock)
        self._lock = None
        if remove and sys.platform == "win32":
            self.path.unlink(missing_ok=True)  # an open file cannot be removed there


def _locked(path: Path) -> int:
    """Opens the file, or makes an empty one, and locks it until the descriptor is closed.

    Raises:
        BlockingIOError: another process, or another opening, holds the lock.
        OSError: it cannot be opened.
    """
    while True:
        # Without O_NONBLOCK the opening of a pipe of that name could wait for its other end.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NONBLOCK", 0), 0o666)
        try:
            _lock(descriptor)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the run before has just removed it: this one is nobody else's


def _lock(descriptor: int) -> None:
    try:
        if sys.platform == "win32":
            import msvcrt

            # Locked bytes cannot be read; one beyond the end, where none is, serves as well.
            os.lseek(descriptor, _LIMIT, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
            raise BlockingIOError(error.errno, error.strerror) from error
        # Some file systems know no locks; one run at a time is right there too.


def _hash(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
