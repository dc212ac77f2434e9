"""Folders that m2a writes to: their free space, and whether they really can be written to."""

from __future__ import annotations

import errno
import secrets
import shutil
from pathlib import Path

from m2a.diagnosis.finding import Finding, broken, good

LITTLE_SPACE = 200 * 10**6
"""Bytes; a bundle and its engines take some tens of megabytes, a 16-bit photo as many."""


def folder_finding(topic: str, folder: Path, *, elsewhere: str) -> Finding:
    """Judges a folder that exists, or that m2a would make.

    A file is made and removed in it, or in the nearest folder above that exists: permissions tell
    too little of a read-only mount, a full quota or an administrator.

    Args:
        topic: what the folder is for.
        folder: the folder.
        elsewhere: what to do where it cannot be made writable.
    """
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    found = str(folder) if place == folder.absolute() else f"{folder} (not made yet)"
    try:
        free = shutil.disk_usage(place).free
        _write_and_remove(place)
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = _mend(place, error.errno, elsewhere)
        return broken(topic, f"{found}: cannot be written to: {reason}", remedy)
    found += f": writable, {free / 1e9:.1f} GB free"
    if free < LITTLE_SPACE:
        return broken(topic, found, f"free some space there, or {elsewhere}")
    return good(topic, found)


def _write_and_remove(folder: Path) -> None:
    # Not `tempfile`, which on Windows tries thousands of names in a folder that refuses all.
    file = folder / f".m2a-doctor-{secrets.token_hex(8)}.tmp"
    try:
        file.write_bytes(b"m2a")
    finally:
        file.unlink(missing_ok=True)


def _mend(folder: Path, code: int | None, elsewhere: str) -> str:
    if code in (errno.ENOSPC, errno.EDQUOT):
        return f"free some space there, or {elsewhere}"
    if code in (errno.EACCES, errno.EPERM):
        return f"chmod u+w '{folder}' if it is yours, or {elsewhere}"
    return elsewhere
