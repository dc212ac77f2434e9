"""What this machine is, as far as engines care; nothing is imported to find out."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable

from m2a.engines.sidecar import Machine
from m2a.machine.cuda_driver import CudaDriver, ask_driver

DISTRIBUTIONS = {"trt": "tensorrt", "rtx": "tensorrt_rtx"}
"""Flavour → the distribution that carries its version."""


def this_machine(*, driver: Callable[[], CudaDriver] = ask_driver) -> Machine:
    """Asks the installed packages and the driver."""
    versions = {flavour: _version(name) for flavour, name in DISTRIBUTIONS.items()}
    return Machine(
        os=platform.system().lower(),
        arch=platform.machine().lower().replace("amd64", "x86_64"),
        tensorrt={flavour: found for flavour, found in versions.items() if found},
        gpus=tuple((gpu.compute_capability, gpu.name) for gpu in driver().gpus),
    )


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
