"""The versions that a bug report needs, read from metadata alone: fast, and never failing."""

from __future__ import annotations

import platform

from m2a.diagnosis.onnx_runtime import DISTRIBUTIONS
from m2a.machine.installed import VersionOf, version_of

_LIBVIPS = "pyvips-binary"
_REQUIRED = ("numpy", "pyvips")
_OPTIONAL = ("av", "torch", "onnx", "tensorrt", "tensorrt-cu12", "tensorrt-cu13", "tensorrt-rtx")


def installed_versions(*, find: VersionOf = version_of) -> dict[str, str]:
    """Returns name → version, in the order in which they are shown.

    What m2a needs is listed even where it is not installed, what is optional only where it is.
    """
    versions = {
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "os": platform.platform(),
    }
    runtimes = {name: found for name in DISTRIBUTIONS if (found := find(name))}
    versions.update(runtimes or {"onnxruntime": "not installed"})
    versions.update({name: find(name) or "not installed" for name in _REQUIRED})
    # Without the binary package pyvips loads the system's libvips, whose version only it knows.
    versions["libvips"] = find(_LIBVIPS) or "the system's"
    versions.update({name: found for name in _OPTIONAL if (found := find(name))})
    return versions
