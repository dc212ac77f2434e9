"""Installed packages, by their metadata: nothing is imported to look at one."""

from __future__ import annotations

import importlib

from m2a.diagnosis.finding import Finding, broken, good, missing
from m2a.errors import install_advice
from m2a.extras import EXTRAS
from m2a.machine.installed import VersionOf, version_of
from m2a.machine.separate_process import Reply, ask

OPTIONAL = ("export", "bench", "eval", "train", "video", "serve", "ray", "triton")
"""The extras that are told; ONNX Runtime and both TensorRTs have topics of their own."""

_STANDS_IN = {"opencv-python-headless": ("opencv-python", "opencv-contrib-python")}
"""Distribution → others that bring the same module."""


def extra_finding(extra: str, *, find: VersionOf = version_of) -> Finding:
    """Tells which packages of an extra are installed; none of them is needed to run a bundle."""
    topic = f"extra {extra}"
    here, absent = [], []
    for name in EXTRAS[extra]:
        found = next(filter(None, map(find, (name, *_STANDS_IN.get(name, ())))), None)
        if found:
            here.append(f"{name} {found}")
        else:
            absent.append(name)
    if not absent:
        return good(topic, ", ".join(here))
    return missing(
        topic,
        f"optional; not installed: {', '.join(absent)}",
        install_advice(extra),
    )


def numpy_finding() -> Finding:
    """Tells whether NumPy, without which nothing runs, can be imported."""
    reply = import_separately("numpy")
    if reply.answer is not None:
        return good("NumPy", str(reply.answer["version"]))
    return broken("NumPy", reply.failure, "pip install --force-reinstall numpy")


def import_separately(module: str, *, seconds: float = 30) -> Reply:
    """Imports a module in a process of its own; the answer holds its `version`."""
    return ask(__name__, "import_module", module, seconds=seconds)


def import_module(module: str) -> dict[str, str]:
    """Imports a module, which may take this process down, and returns its version."""
    imported = importlib.import_module(module)
    return {"version": str(getattr(imported, "__version__", "unknown"))}
