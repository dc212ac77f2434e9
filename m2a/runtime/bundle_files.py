"""Where a bundle may be written, and writing it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from m2a.errors import BundleError, UsageError
from m2a.files import check_writable, write_folder
from m2a.runtime.bundle import MANIFEST, PRECISIONS, REFERENCE, Bundle, open_bundle

__all__ = ["check_replaceable", "resolve_target", "write_bundle"]

_ENTRIES = (MANIFEST, REFERENCE, *PRECISIONS, "engines")
"""What m2a writes into a bundle's folder."""


def resolve_target(path: Path) -> Path:
    """Follows links, so that a link's target is replaced and not the link.

    Raises:
        UsageError: the path cannot be a directory.
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise UsageError(f"{path} cannot be a bundle's directory: {error}") from error


def check_replaceable(target: Path) -> Bundle | None:
    """Refuses a place where a bundle must not be written, before any work is done.

    Returns:
        The bundle that would be replaced; None where there is none.

    Raises:
        UsageError: the parent folder is missing, or what is there is not a bundle or holds more
            than one, which would be lost.
        BundleError: nothing can be created there.
    """
    older = _older_bundle(target)
    try:
        check_writable(target)
    except OSError as error:
        raise _unwritable(target, error) from error
    return older


def _older_bundle(target: Path) -> Bundle | None:
    if not target.exists():
        if not target.absolute().parent.is_dir():
            raise UsageError(f"the folder {target.absolute().parent} does not exist")
        return None
    if not target.is_dir():
        raise UsageError(f"{target}: found a file, expected a folder; choose another with -o")
    entries = sorted(entry.name for entry in target.iterdir())
    foreign = [name for name in entries if name not in _ENTRIES]
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise UsageError(
            f"{target}: holds other files than a bundle; choose another folder with -o "
            f"(found {foreign[0]}{more})"
        )
    if not entries:
        return None
    try:
        return open_bundle(target)
    except BundleError as error:
        raise UsageError(
            f"{target}: found a damaged bundle, or one of another version, expected a new folder "
            f"or a bundle to replace; choose another with -o ({error})"
        ) from error


def write_bundle(target: Path, files: Mapping[str, bytes]) -> None:
    """Writes a bundle whole or not at all, as `write_folder`.

    Raises:
        BundleError: it cannot be written; an older bundle is then untouched.
    """
    try:
        write_folder(target, files)
    except OSError as error:
        raise _unwritable(target, error) from error


def _unwritable(target: Path, error: OSError) -> BundleError:
    return BundleError(f"cannot write the bundle {target}: {error.strerror}")
