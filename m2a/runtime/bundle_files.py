"""Where a bundle may be written, and writing it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from m2a.errors import BundleError, UsageError
from m2a.files import write_folder
from m2a.runtime.bundle import open_bundle

__all__ = ["check_replaceable", "resolve_target", "write_bundle"]


def resolve_target(path: Path) -> Path:
    """Follows links, so that a link's target is replaced and not the link.

    Raises:
        UsageError: the path cannot be a directory.
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise UsageError(f"{path} cannot be a bundle's directory: {error}") from error


def check_replaceable(target: Path) -> None:
    """Refuses a place where a bundle must not be written, before any work is done.

    Raises:
        UsageError: the parent folder is missing, or something that is not a bundle is there.
    """
    if not target.exists():
        if not target.absolute().parent.is_dir():
            raise UsageError(f"the folder {target.absolute().parent} does not exist")
        return
    if target.is_dir() and not any(target.iterdir()):
        return
    try:
        open_bundle(target)
    except BundleError as error:
        raise UsageError(
            f"{target} exists and is not a bundle of this version, so it is not replaced "
            f"({error}). Delete it, or choose another directory with -o"
        ) from error


def write_bundle(target: Path, files: Mapping[str, bytes]) -> None:
    """Writes a bundle whole or not at all, as `write_folder`.

    Raises:
        BundleError: it cannot be written; an older bundle is then untouched.
    """
    try:
        write_folder(target, files)
    except OSError as error:
        raise BundleError(f"cannot write the bundle {target}: {error.strerror}") from error
