"""NVIDIA's driver and GPUs, asked through the driver's own library, and what builds on them."""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from m2a.diagnosis.finding import Finding, broken, good, missing
from m2a.diagnosis.packages import VersionOf
from m2a.diagnosis.separate_process import Reply, ask

DRIVER_PAGE = "https://www.nvidia.com/drivers"

OLDEST_TENSORRT = (10, 3)
OLDEST_TENSORRT_RTX = (1, 1)

_NO_DEVICE = 100
"""CUDA_ERROR_NO_DEVICE."""

_COMPUTE_CAPABILITY = (75, 76)
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""

_WINDOWS = ("nvcuda.dll",)
_ELSEWHERE = ("libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1")


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU.

    Attributes:
        name: NVIDIA's name for it.
        compute_capability: `8.6`, for example.
        memory: in bytes, all of it.
    """

    name: str
    compute_capability: str
    memory: int


@dataclass(frozen=True, kw_only=True)
class CudaDriver:
    """What the driver says.

    Attributes:
        version: the newest CUDA that it runs, or None where the library tells none.
        gpus: the GPUs it offers.
        absent: whether there is no driver at all.
        failure: what went wrong; empty where it answers.
    """

    version: str | None = None
    gpus: tuple[Gpu, ...] = ()
    absent: bool = False
    failure: str = ""


class _DriverError(Exception):
    """A call of the driver's library returned an error code."""

    def __init__(self, call: str, code: int, name: str) -> None:
        super().__init__(f"{call} returned {code} ({name})")
        self.code = code


def ask_driver(*, seconds: float = 30) -> CudaDriver:
    """Asks the driver in a process of its own, since one in a bad state may never answer."""
    reply = ask(__name__, "query_driver", seconds=seconds)
    if reply.answer is None:
        return CudaDriver(failure=reply.failure)
    gpus = tuple(Gpu(**gpu) for gpu in reply.answer["gpus"])
    return CudaDriver(**{**reply.answer, "gpus": gpus})


def query_driver() -> dict[str, Any]:
    """Asks the driver in this process; returns the fields of a `CudaDriver`."""
    driver = read_driver(ctypes.CDLL, _WINDOWS if sys.platform == "win32" else _ELSEWHERE)
    return {**vars(driver), "gpus": [vars(gpu) for gpu in driver.gpus]}


def read_driver(load: Callable[[str], Any], names: Sequence[str]) -> CudaDriver:
    """Asks the driver's library.

    Args:
        load: opens a shared library, or raises OSError.
        names: where it may lie, in order.
    """
    failure = ""
    for name in names:
        try:
            library = load(name)
        except OSError as error:
            # Found but not loadable is worth more than not found at a later place.
            if not _says_not_found(error):
                failure = failure or str(error)
            continue
        return _read_library(library)
    return CudaDriver(absent=not failure, failure=failure or f"{names[0]} is not here")


def _says_not_found(error: OSError) -> bool:
    text = str(error)
    return "No such file" in text or "Could not find module" in text or "image not found" in text


def _read_library(library: Any) -> CudaDriver:  # noqa: ANN401 - ctypes' libraries have no types
    version: str | None = None
    try:
        number = ctypes.c_int()
        _call(library, "cuDriverGetVersion", ctypes.byref(number))
        version = f"{number.value // 1000}.{number.value % 1000 // 10}"
        _call(library, "cuInit", ctypes.c_uint(0))
        count = ctypes.c_int()
        _call(library, "cuDeviceGetCount", ctypes.byref(count))
        gpus = tuple(_read_gpu(library, index) for index in range(count.value))
    except _DriverError as error:
        if error.code == _NO_DEVICE:
            return CudaDriver(version=version)
        return CudaDriver(version=version, failure=str(error))
    except AttributeError as error:  # a library of that name without the function
        return CudaDriver(version=version, failure=str(error))
    return CudaDriver(version=version, gpus=gpus)


def _read_gpu(library: Any, index: int) -> Gpu:  # noqa: ANN401 - as above
    device = ctypes.c_int()
    _call(library, "cuDeviceGet", ctypes.byref(device), ctypes.c_int(index))
    name = ctypes.create_string_buffer(256)
    _call(library, "cuDeviceGetName", name, ctypes.c_int(len(name)), device)
    capability = []
    for attribute in _COMPUTE_CAPABILITY:
        value = ctypes.c_int()
        _call(library, "cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(attribute), device)
        capability.append(value.value)
    memory = ctypes.c_size_t()
    _call(library, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    return Gpu(
        name=name.value.decode("utf-8", "replace"),
        compute_capability=".".join(map(str, capability)),
        memory=memory.value,
    )


def _call(library: Any, function: str, *arguments: Any) -> None:  # noqa: ANN401 - as above
    code = int(getattr(library, function)(*arguments))
    if code:
        text = ctypes.c_char_p()
        known = library.cuGetErrorName(ctypes.c_int(code), ctypes.byref(text)) == 0
        name = text.value.decode() if known and text.value else "unknown to the driver"
        raise _DriverError(function, code, name)


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
        return missing(topic, "optional; not installed", f"pip install {package}")
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
        return missing(topic, "optional; not installed", "pip install pycuda")
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
