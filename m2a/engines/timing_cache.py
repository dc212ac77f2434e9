"""The timing cache: what builds measured, kept in a file that all builds share.

It saves time and nothing else, so whatever is wrong with the file, a build goes on without it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from m2a.files import atomic_write

_LOCK_SECONDS = 30


class TimingCacheFile:
    """A file of timings, of one TensorRT and one kind of GPU."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> bytes:
        """Returns what earlier builds measured; nothing where it cannot be read."""
        try:
            return self._path.read_bytes()
        except OSError:
            return b""

    def update(self, merged: Callable[[bytes], bytes]) -> None:
        """Merges new timings with those that other builds wrote meanwhile.

        The lock is held for the merging alone, not for a build.

        Args:
            merged: given the timings in the file, returns those to write.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self._path}.lock", timeout=_LOCK_SECONDS):
                atomic_write(self._path, merged(self.read()), overwrite=True)
        except (OSError, Timeout):
            return
