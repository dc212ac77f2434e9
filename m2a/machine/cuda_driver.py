"""NVIDIA's driver and GPUs, asked through the driver's own library: no package is needed."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from m2a.machine.separate_process import ask

__all__ = ["CudaDriver", "Gpu", "ask_driver", "read_driver"]

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
