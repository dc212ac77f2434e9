"""Names of files in a place: relative to it, with forward slashes."""

from __future__ import annotations

import os
import re

from m2a.errors import UsageError, on_one_line

__all__ = ["check_name", "is_hidden", "is_unicode"]


def check_name(name: str, *, windows: bool = os.name == "nt") -> None:
    """Refuses a name that would lead out of the folder it is joined to; an object's can.

    Args:
        name: of a file, relative to a place, with forward slashes.
        windows: whether backslashes and colons mean what they mean to Windows.

    Raises:
        UsageError: a part is empty, `.` or `..`; on Windows, it holds a backslash or colon.
    """
    if any(part in ("", ".", "..") for part in name.split("/")):
        expected = "parts that are neither empty nor . nor .."
    elif windows and re.search(r"[\\:]", name):
        expected = "neither backslash nor colon on Windows"
    else:
        return
    raise UsageError(f"found the name {on_one_line(name)!r}, expected {expected}; rename it")


def is_hidden(name: str) -> bool:
    """Whether a file, or a folder on the way to it, is hidden; `.` and `..` are not."""
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))


def is_unicode(name: str) -> bool:
    """Whether a name can stand in a Parquet file: bytes that are not UTF-8 become surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)
