"""Where m2a keeps what it can make again: the user's cache folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["cache_folder", "kept_at"]


def cache_folder(
    *, platform: str = sys.platform, environment: Mapping[str, str] = os.environ
) -> Path:
    """Returns the folder, which need not exist yet.

    `$XDG_CACHE_HOME/m2a` wherever that is set to an absolute path, otherwise
    `%LOCALAPPDATA%\\m2a\\cache` on Windows, `~/Library/Caches/m2a` on macOS, `~/.cache/m2a`
    elsewhere.

    Raises:
        RuntimeError: the user has no home directory.
    """
    chosen = environment.get("XDG_CACHE_HOME", "")
    if Path(chosen).is_absolute():  # the specification says to ignore a relative one
        return Path(chosen) / "m2a"
    if platform == "win32":
        local = environment.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "m2a" / "cache"
    if platform == "darwin":
        return Path.home() / "Library" / "Caches" / "m2a"
    return Path.home() / ".cache" / "m2a"


def kept_at(*names: str) -> Path | None:
    """A path below the cache folder; None for a user without a home, who goes on without it."""
    try:
        return cache_folder().joinpath(*names)
    except RuntimeError:
        return None
