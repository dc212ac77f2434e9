"""m2a: local motion deblurring with M2AENet, from a checkpoint to ONNX Runtime and TensorRT.

The public names are imported on first use, so that `import m2a` costs nothing and a machine
without torch can run a bundle.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from m2a._version import __version__
from m2a.errors import M2AError

if TYPE_CHECKING:
    from m2a.export import export_bundle
    from m2a.runtime import Deblurrer, Result, load

__all__ = ["Deblurrer", "M2AError", "Result", "__version__", "export_bundle", "load"]

_HOMES = {
    "Deblurrer": "m2a.runtime",
    "Result": "m2a.runtime",
    "export_bundle": "m2a.export",
    "load": "m2a.runtime",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the type is the public object's own
    if name not in _HOMES:
        raise AttributeError(f"module 'm2a' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
