"""What a bundle's manifest says of its graphs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from m2a.graphs.contract import CONTRACTS, Port


def graph_entries(precision: str, graphs: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """Returns the section `graphs.{precision}` of a manifest.

    Args:
        precision: `fp32`, `fp16` or `int8`.
        graphs: `mask` and `restore`, serialised.
    """
    return {
        name: {
            "path": graph_path(name, precision),
            "sha256": hashlib.sha256(content).hexdigest(),
            "inputs": [_port(port) for port in CONTRACTS[name].inputs],
            "outputs": [_port(port) for port in CONTRACTS[name].outputs],
        }
        for name, content in graphs.items()
    }


def graph_path(name: str, precision: str) -> str:
    """Where a graph lies in its bundle."""
    return f"{precision}/{name}.onnx"


def _port(port: Port) -> dict[str, Any]:
    return {"name": port.name, "dtype": port.dtype, "shape": list(port.shape)}
