"""What was deblurred in place, so that an interrupted run goes on without doing it a second time.

A photo that is replaced by its deblurred self cannot be told from one that is still to be done. So
the hash of each new file stands in a journal, on the disk, before the file takes its place. After a
crash at any moment a photo is either still the old one, whose hash is not in the journal, or the
new one, whose hash is. A photo that was put there since has another hash and is done.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from m2a.errors import ImageError
from m2a.files import read_regular

__all__ = ["JOURNAL", "Journal"]

JOURNAL = ".m2a-journal"
"""The journal's name, in the folder that the outputs are written into. It is a line of text a file:
the SHA-256 of its content."""

_LIMIT = 2**30


class Journal:
    """The journal of one folder; the file is there from the first note until it is removed.

    Attributes:
        path: the file.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL
        try:
            lines = read_regular(self.path, limit=_LIMIT).split()
        except FileNotFoundError:
            lines = []
        except OSError as error:
            raise ImageError(
                f"{self.path}: cannot be read ({error.strerror}), expected the journal of an "
                "interrupted run; delete it to deblur all photos of the folder (again)"
            ) from error
        self._hashes = set(lines)

    def __contains__(self, path: Path) -> bool:
        """Whether a file is one that was noted, by its content.

        Args:
            path: the file; one that cannot be read was not noted.
        """
        if not self._hashes:
            return False
        try:
            with path.open("rb") as stream:
                return _hash(stream.read()) in self._hashes
        except OSError:
            return False

    def note(self, content: bytes) -> None:
        """Notes the content of a file that is about to be written.

        Raises:
            OSError: the note cannot be brought to the disk.
        """
        digest = _hash(content)
        with self.path.open("ab") as stream:
            stream.write(digest + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        self._hashes.add(digest)

    def remove(self) -> None:
        """Removes the file: all is done, and the next run begins anew."""
        self.path.unlink(missing_ok=True)


def _hash(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
