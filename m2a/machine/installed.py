"""Installed packages, by their metadata: nothing is imported to look at one."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass

VersionOf = Callable[[str], "str | None"]
"""The name of a distribution → its version, or None where it is not installed."""


@dataclass(frozen=True, kw_only=True)
class Flavour:
    """One of the two TensorRTs.

    Attributes:
        title: its name.
        module: its Python module.
        distributions: those that may carry it, and so its version.
        oldest: the oldest version that builds strongly typed networks as they are needed here.
    """

    title: str
    module: str
    distributions: tuple[str, ...]
    oldest: tuple[int, ...]


TENSORRT: Mapping[str, Flavour] = {
    "trt": Flavour(
        title="TensorRT",
        module="tensorrt",
        distributions=("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
        oldest=(10, 3),
    ),
    "rtx": Flavour(
        title="TensorRT for RTX",
        module="tensorrt_rtx",
        distributions=("tensorrt-rtx",),
        oldest=(1, 1),
    ),
}
"""Short name, as it stands in an engine's key → the flavour."""


def version_of(distribution: str) -> str | None:
    """Returns an installed distribution's version, or None where it is not installed."""
    try:
        metadata = importlib.metadata.distribution(distribution).metadata
    except importlib.metadata.PackageNotFoundError:
        return None
    # A folder that an interrupted installation left has a name and nothing else.
    return metadata["Version"] if metadata and "Version" in metadata else "unknown"
