"""What this machine is, as far as engines care; nothing is imported to find out."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from m2a.machine.cuda_driver import CudaDriver, ask_driver
from m2a.machine.installed import TENSORRT, VersionOf, version_of


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What an engine needs to know of a machine.

    Attributes:
        os: `linux`, `windows`.
        arch: `x86_64`, `aarch64`.
        tensorrt: flavour → installed version.
        gpus: compute capability, as `8.6`, and name of each GPU.
        fault: why the driver does not answer; empty where it does, or where there is none.
    """

    os: str
    arch: str
    tensorrt: Mapping[str, str]
    gpus: tuple[tuple[str, str], ...]
    fault: str = ""

    @property
    def without_gpu(self) -> str:
        """That there is no GPU, in words."""
        if self.fault:
            return f"the driver does not answer ({self.fault}; see `m2a doctor`)"
        return "there is none here"


def this_machine(
    *,
    driver: Callable[[], CudaDriver] = ask_driver,
    find: VersionOf = version_of,
) -> Machine:
    """Asks the installed packages and the driver.

    Args:
        driver: asks the driver.
        find: tells a distribution's version, or None where it is not installed.
    """
    versions = {
        name: next(filter(None, map(find, flavour.distributions)), None)
        for name, flavour in TENSORRT.items()
    }
    answer = driver()
    return Machine(
        os=platform.system().lower(),
        arch=platform.machine().lower().replace("amd64", "x86_64"),
        tensorrt={flavour: found for flavour, found in versions.items() if found},
        gpus=tuple((gpu.compute_capability, gpu.name) for gpu in answer.gpus),
        fault="" if answer.absent else answer.failure,
    )
