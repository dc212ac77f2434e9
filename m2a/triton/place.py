"""Where a model repository may be written."""

from __future__ import annotations

import json
from pathlib import Path

from m2a.errors import UsageError
from m2a.files import check_writable, read_regular

__all__ = ["CONTENTS", "check_replaceable"]

CONTENTS = "m2a-repository.json"
"""In the repository's root, where the server passes it over: what was written, and of what."""

MAX_CONTENTS = 2**24
"""Bytes of it; ours have some ten thousand."""


def check_replaceable(target: Path, *, overwrite: bool) -> None:
    """Refuses a place where a repository must not be written, before any work is done.

    Raises:
        UsageError: the parent folder is missing, or something is there that is not a repository
            of ours, holds what we did not write, or may not be overwritten.
        OSError: as `check_writable`.
    """
    _check_contents(target, overwrite=overwrite)
    check_writable(target)


def _check_contents(target: Path, *, overwrite: bool) -> None:
    if not target.exists():
        if not target.absolute().parent.is_dir():
            raise UsageError(f"the folder {target.absolute().parent} does not exist")
        return
    if target.is_dir() and not any(target.iterdir()):
        return
    foreign = _foreign_files(target)
    if foreign:
        raise UsageError(
            f"{target} holds what `m2a triton` did not write ({foreign[0]}), so it is not "
            "replaced. Move that away, or choose another folder with -o"
        )
    if not overwrite:
        raise UsageError(
            f"{target}: found an existing repository, expected a new name; give --overwrite to "
            "replace it as a whole"
        )


def _foreign_files(target: Path) -> list[str]:
    """What lies in a folder beside what we wrote there; of another's folder, anything."""
    try:
        content = json.loads(read_regular(target / CONTENTS, limit=MAX_CONTENTS))
        ours = {CONTENTS, *content["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        ours = set()
    if not target.is_dir():
        return [target.name]
    # The server leaves compiled Python where it may.
    return sorted(
        path.relative_to(target).as_posix()
        for path in target.rglob("*")
        if not path.is_dir()
        and "__pycache__" not in path.parts
        and path.relative_to(target).as_posix() not in ours
    )
