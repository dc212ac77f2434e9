"""libvips, which reads and writes pictures: loaded at the first use."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType

from m2a.errors import ImageError

ICC_FIELD = "icc-profile-data"
"""libvips' name for the embedded colour profile."""


@functools.cache
def load_vips() -> ModuleType:
    """pyvips, imported at the first use: whoever only works on arrays never loads libvips.

    Its warnings go to the logger "pyvips", never to standard error.
    """
    try:
        return importlib.import_module("pyvips")
    except (ImportError, OSError) as error:
        raise ImageError(
            f"libvips, which reads and writes pictures, cannot be loaded: {error}; "
            "install it with: pip install 'pyvips[binary]'"
        ) from error


def one_line(error: Exception) -> str:
    """The many lines of libvips' explanation as one, without repetitions."""
    detail = getattr(error, "detail", None) or str(error)
    lines = dict.fromkeys(line.strip() for line in detail.splitlines())
    said = [line for line in lines if line and not line.startswith("source: bad seek")]
    return "; ".join(said) or "no reason given"
