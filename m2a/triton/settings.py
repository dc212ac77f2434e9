"""What a stitching model is told by the `parameters` of its `config.pbtxt`.

The command writes them, an operator may edit them, the model reads them when it is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from m2a.errors import UsageError

__all__ = ["BUNDLE", "IN_PROCESS", "SERVER", "StitchSettings", "part_name"]

SERVER = "server"
"""The graphs are models of the server, asked by requests from inside it."""

IN_PROCESS = "in-process"
"""The graphs are ONNX Runtime sessions in the process of the stitching model."""

BUNDLE = "bundle"
"""Folder beside `model.py` that holds the bundle's manifest, and the graphs if `IN_PROCESS`."""


def part_name(graph: str) -> str:
    """The name of the server's model that computes a graph, `mask` or `restore`."""
    return f"m2a_{graph}"


@dataclass(frozen=True, kw_only=True)
class StitchSettings:
    """The parameters of a stitching model.

    Attributes:
        graphs: `SERVER` or `IN_PROCESS`.
        precision: of the graphs.
        threshold: a pixel is active where its probability is at least this, in (0, 1]; a request
            may give another.
        dilate: radius in pixels by which the mask is then dilated; a request may give another.
        ensemble: turns of a picture over which the mean is taken; a repository that does not say
            takes one.
        max_pixels: the most pixels accepted, as `m2a.runtime.decoding.counted_pixels` counts them.
        max_memory: bytes that the graphs may take at a time, about; None takes a quarter of the
            memory that is free when the model is loaded.
        threads: threads that compute in the model's process; None takes the cores it may use.
    """

    graphs: str
    precision: str
    threshold: float
    dilate: int
    ensemble: int = 1
    max_pixels: int
    max_memory: int | None = None
    threads: int | None = None

    def to_parameters(self) -> dict[str, str]:
        """Returns them as a configuration holds them, without those that are None."""
        return {name: str(value) for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Mapping[str, str]]) -> StitchSettings:
        """Reads them.

        Args:
            parameters: of the model's configuration in JSON; what is not ours is passed over.

        Raises:
            UsageError: one is missing or malformed.
        """
        found = {name: entry["string_value"] for name, entry in parameters.items()}
        values = {field.name: _value(found, field.name) for field in fields(cls)}
        if values["graphs"] not in (SERVER, IN_PROCESS):
            raise UsageError(
                f"config.pbtxt: the parameter 'graphs' is {values['graphs']!r}, "
                f"expected {SERVER!r} or {IN_PROCESS!r}"
            )
        return cls(**values)


_TYPES = {
    "threshold": float,
    "dilate": int,
    "ensemble": int,
    "max_pixels": int,
    "max_memory": int,
    "threads": int,
}

_DEFAULTS = {"ensemble": 1, "max_memory": None, "threads": None}


def _value(found: Mapping[str, str], name: str) -> Any:  # noqa: ANN401 - as `_TYPES` says
    if name not in found:
        if name in _DEFAULTS:
            return _DEFAULTS[name]
        raise UsageError(f"config.pbtxt: the parameter {name!r} is missing; write it again")
    kind = _TYPES.get(name, str)
    try:
        return kind(found[name])
    except ValueError:
        raise UsageError(
            f"config.pbtxt: the parameter {name!r} is {found[name]!r}, expected {kind.__name__}"
        ) from None
