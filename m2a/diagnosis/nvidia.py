"""NVIDIA's driver and GPUs, and what builds on them."""

from __future__ import annotations

import re
from collections.abc import Callable

from m2a.diagnosis.finding import Finding, broken, good, missing
from m2a.errors import install_advice
from m2a.machine.cuda_driver import CudaDriver
from m2a.machine.installed import VersionOf
from m2a.machine.separate_process import Reply

DRIVER_PAGE = "https://www.nvidia.com/drivers"


def driver_finding(driver: CudaDriver) -> Finding:
    """Judges the driver; without one m2a runs on the CPU."""
    topic = "CUDA driver"
    if driver.absent:
        return missing(
            topic, driver.failure, f"with an NVIDIA GPU: install its driver, {DRIVER_PAGE}"
        )
    if driver.failure:
        found = f"for CUDA {driver.version}: {driver.failure}" if driver.version else driver.failure
        return broken(
            topic,
            found,
            f"reboot; if that changes nothing, install the driver again, {DRIVER_PAGE}; in a "
            "container, start it with --gpus all",
        )
    return good(topic, f"runs CUDA up to {driver.version}")


def gpu_finding(driver: CudaDriver) -> Finding:
    """Names the GPUs; none is no fault."""
    topic = "NVIDIA GPU"
    if driver.gpus:
        return good(
            topic,
            "; ".join(
                f"{gpu.name}, compute capability {gpu.compute_capability}, "
                f"{gpu.memory / 1e9:.1f} GB"
                for gpu in driver.gpus
            ),
        )
    if driver.absent or driver.failure:
        return missing(topic, "none can be seen without a working driver")
    return missing(
        topic, "the driver offers none", "where CUDA_VISIBLE_DEVICES hides it, unset that"
    )


def tensorrt_finding(
    topic: str, module: str, *, oldest: tuple[int, ...], attempt: Callable[[str], Reply] | None
) -> Finding:
    """Judges TensorRT or TensorRT for RTX; neither is needed to run a bundle on ONNX Runtime.

    Args:
        topic: its name.
        module: its module.
        oldest: the oldest version that m2a can use.
        attempt: imports it; None where there is nothing to import.
    """
    package = module.replace("_", "-")
    if attempt is None:
        return missing(topic, "optional; not installed", install_advice(package))
    reply = attempt(module)
    if reply.answer is None:
        return broken(
            topic,
            f"{module} is installed and cannot be imported: {reply.failure}",
            f"pip install --force-reinstall {package}; on a Jetson, install JetPack's TensorRT",
        )
    version = str(reply.answer["version"])
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[: len(oldest)])
    if numbers < oldest:
        wanted = ".".join(map(str, oldest))
        return missing(
            topic, f"{version} is older than {wanted}", f"pip install '{package}>={wanted}'"
        )
    return good(topic, version)


def pycuda_finding(*, find: VersionOf, attempt: Callable[[str], Reply]) -> Finding:
    """Judges pycuda, which is optional.

    Args:
        find: tells an installed distribution's version.
        attempt: imports its driver module.
    """
    topic = "pycuda"
    version = find("pycuda")
    if version is None:
        return missing(topic, "optional; not installed", install_advice("tensorrt"))
    reply = attempt("pycuda.driver")
    if reply.answer is not None:
        return good(topic, version)
    if "libcuda" in reply.failure:
        return missing(topic, f"{version} is installed, but there is no CUDA driver")
    return broken(
        topic,
        f"{version} is installed and cannot be imported: {reply.failure}",
        "pip install --force-reinstall --no-binary pycuda pycuda",
    )
