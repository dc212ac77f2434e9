"""Where a model repository may be written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
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
            of ours, holds what we did not write or what was changed since, or may not be
            overwritten.
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
            f"{target} holds what `m2a triton` did not write, or what was changed since "
            f"({foreign[0]}), so it is not replaced. Move that away, or choose another folder "
            "with -o"
        )
    if not overwrite:
        raise UsageError(
            f"{target}: found an existing repository, expected a new name; give --overwrite to "
            "replace it as a whole"
        )


def _foreign_files(target: Path) -> list[str]:
    """What lies in a folder and is not as we wrote it there; of another's folder, anything."""
    if not target.is_dir():
        return [target.name]
    try:
        content = json.loads(read_regular(target / CONTENTS, limit=MAX_CONTENTS))
        hashes = dict(content["files"])
    except (OSError, ValueError, KeyError, TypeError):
        hashes = {}
    return sorted(
        path.relative_to(target).as_posix()
        for path in target.rglob("*")
        if _is_foreign(path, target, hashes)
    )


def _is_foreign(path: Path, target: Path, hashes: Mapping[str, object]) -> bool:
    """Whether a path in a repository is not what we wrote.

    Args:
        path: of a file, a folder or a link, which we write none of.
        target: the repository.
        hashes: the path of each file that we wrote, inside the repository → its SHA-256.
    """
    if path.is_symlink():
        return True
    if path.is_dir():
        return False
    inside = path.relative_to(target)
    name = inside.as_posix()
    if name == CONTENTS:
        return not hashes
    if name not in hashes:
        # The server leaves compiled Python where it may.
        return not (path.suffix == ".pyc" and inside.parent.name == "__pycache__")
    try:
        content = read_regular(path, limit=path.stat().st_size)
    except OSError:
        return True
    return hashlib.sha256(content).hexdigest() != hashes[name]
