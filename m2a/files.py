"""Reading a file that may be anything; writing a file, or a folder of files, whole or not at all.

What is not finished yet is called `.m2a-….tmp` (a file) or `.NAME.….new` (a folder); what is about
to be replaced `.NAME.….old`. Only a process that was killed leaves such names behind.
"""

from __future__ import annotations

import errno
import glob
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from m2a.errors import UsageError

_BINARY = getattr(os, "O_BINARY", 0)  # Windows would translate line ends

__all__ = [
    "atomic_file",
    "atomic_write",
    "check_name",
    "check_target",
    "check_writable",
    "read_regular",
    "set_aside",
    "write_folder",
]


def read_regular(path: Path, *, limit: int) -> bytes:
    """Read a file whole, from one opening, so that one that is replaced meanwhile cannot mix in.

    Args:
        path: the file. A pipe or a device, which may never end, is refused unread.
        limit: the most bytes accepted; a longer file is refused unread. No more memory is asked
            for than the file's size.

    Raises:
        OSError: it cannot be read, is not a regular file, is longer than `limit`, or has more bytes
            than its size was when it was opened: it grows, or is one like those of Linux' /proc,
            which state no size.
    """
    # Without O_NONBLOCK the opening of a pipe would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        stream = os.fdopen(descriptor, "rb")  # of a folder it fails, and leaves it open
    except BaseException:
        os.close(descriptor)
        raise
    size = found.st_size
    with stream:
        # Python takes memory for as much as it is told to read, not for what there is.
        content = stream.read(size + 1) if size <= limit else None
    if content is None:
        raise OSError(errno.EFBIG, f"longer than {limit} bytes", str(path))
    if len(content) > size:
        why = f"longer than the {size} bytes that it had when it was opened; is it being written?"
        raise OSError(errno.EFBIG, why, str(path))
    return content


def check_target(path: Path, *, overwrite: bool) -> None:
    """Refuse a place where a file must not or cannot be written, before any work is done.

    Args:
        path: the file to be written.
        overwrite: whether an existing file may be replaced.

    Raises:
        UsageError: the file exists and `overwrite` is false, `path` is a folder, or its folder
            does not exist.
        OSError: the file system cannot answer, for instance because the name is too long, or as
            `check_writable`.
    """
    check_name(path, overwrite=overwrite)
    check_writable(path)


def check_writable(path: Path) -> None:
    """Refuse a place where nothing can be created, before any work is done.

    Of permissions, quotas, read-only file systems and the like only a trial tells: an empty file is
    created in the nearest folder above the path that exists, and removed.

    Args:
        path: the file or the folder to be created or replaced; folders above it may be missing.

    Raises:
        OSError: no file can be created there. Its `filename` is `path`.
    """
    target = _target(path)
    folder = next(parent for parent in target.absolute().parents if os.path.lexists(parent))
    trial = folder / _temporary_name()
    try:
        trial.open("xb").close()
        trial.unlink()
    except OSError as error:
        why = f"no file can be created in {folder}: {error.strerror}"
        raise OSError(error.errno, why, str(path)) from error


def check_name(path: Path, *, overwrite: bool) -> None:
    """The part of `check_target` that creates nothing, for those who are about to write."""
    if path.is_dir():
        raise UsageError(f"{path}: found a folder, expected the name of the file to write")
    if path.exists() and not overwrite:
        raise _exists(path)
    folder = _target(path).parent
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise UsageError(
            f"{path}: cannot be written: expected the folder {folder}, found {found} there; "
            "create the folder first"
        )


@contextmanager
def atomic_file(path: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """Open a file to write such that a reader sees the old file or the whole new one.

    The bytes go to a temporary file in the same folder. When the block ends they are synchronised
    to the disk and moved into place in one step. If it fails, the temporary file is removed and an
    existing file is left as it was. A symbolic link is followed: the file it points at is
    replaced. The mode is that of the file that is replaced; a new file's follows the umask.

    Args:
        path: the file to write; its folder must exist.
        overwrite: whether an existing file may be replaced. If not, a file that another program
            creates while this one is writing is not replaced either.

    Yields:
        The temporary file, binary.

    Raises:
        UsageError: as `check_target`.
        OSError: the disk is full, the folder may not be written to, …
    """
    check_name(path, overwrite=overwrite)
    target = _target(path)
    temporary = target.with_name(_temporary_name())
    try:
        # "x" and not `tempfile`: a plain open obeys the umask, `mkstemp` always gives 0600.
        with temporary.open("xb") as stream:
            _take_mode(temporary, target)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if overwrite:
            temporary.replace(target)
        else:
            _place_new(temporary, target)
    except OSError as error:
        _name_instead(error, temporary, path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write(path: Path, data: bytes, *, overwrite: bool) -> None:
    """Write `data` to `path`, whole or not at all; arguments and errors as `atomic_file`."""
    with atomic_file(path, overwrite=overwrite) as stream:
        stream.write(data)


def write_folder(target: Path, files: Mapping[str, bytes]) -> None:
    """Builds a folder beside its place, then swaps it in as a whole.

    What earlier writers had set aside and were killed over is removed then.

    Args:
        target: the folder; an older one is replaced, with all that is in it.
        files: path inside the folder → content.

    Raises:
        OSError: it cannot be written; an older folder is then as it was.
    """
    aside = set_aside(target)
    if aside and not target.exists():
        aside[-1].rename(target)
    mark = secrets.token_hex(4)
    fresh = target.with_name(f".{target.name}.{mark}.new")
    old = target.with_name(f".{target.name}.{mark}.old")
    try:
        for name, content in files.items():
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        try:
            if target.exists():
                target.rename(old)
            fresh.rename(target)
        except BaseException:  # Ctrl-C too must not lose the old folder
            if old.exists() and not target.exists():
                old.rename(target)
            raise
    except OSError as error:
        _name_instead(error, fresh, target)
        raise
    else:
        # Not what is set aside by now: that may be ours, moved by a writer that is at work.
        for path in aside:
            shutil.rmtree(path, ignore_errors=True)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        # Where another writer took the place meanwhile, its folder is the newer one.
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)


def set_aside(target: Path) -> list[Path]:
    """The older folders that a killed `write_folder` had set aside, oldest first."""
    pattern = f".{glob.escape(target.name)}.{'[0-9a-f]' * 8}.old"
    return sorted(target.parent.glob(pattern), key=lambda path: path.stat().st_mtime_ns)


def _temporary_name() -> str:
    """Apart from the target's, which may already be as long as the file system allows."""
    return f".m2a-{secrets.token_hex(8)}.tmp"


def _name_instead(error: OSError, hidden: Path, path: Path) -> None:
    """Names in an error what the caller knows, where it names our own file or what is in it."""
    if error.filename is not None and Path(error.filename).is_relative_to(hidden):
        error.filename = str(path)


def _take_mode(temporary: Path, target: Path) -> None:
    """Gives the mode of the file that will be replaced, if there is one."""
    if os.name != "posix":  # Windows could not remove a temporary file that is read only
        return
    # A file system without modes may refuse it; then there is nothing to keep.
    with suppress(OSError):
        temporary.chmod(stat.S_IMODE(target.stat().st_mode) & 0o777)


def _place_new(temporary: Path, target: Path) -> None:
    """Move `temporary` to `target` unless something is there by now."""
    try:
        # Unlike a rename, a hard link fails where the name is taken.
        target.hardlink_to(temporary)
    except FileExistsError:
        raise _exists(target) from None
    except OSError:
        # A file system without hard links (FAT, some network mounts): the best it can do.
        if target.exists():
            raise _exists(target) from None
        temporary.replace(target)


def _target(path: Path) -> Path:
    try:
        return path.resolve() if path.is_symlink() else path
    except RuntimeError as error:  # how Python before 3.13 reports a loop of links
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from error


def _exists(path: Path) -> UsageError:
    return UsageError(
        f"{path}: found an existing file, expected a new name; give --overwrite to replace it"
    )
