"""The driver, played by an object whose functions fill ctypes' pointers as the library does."""

from __future__ import annotations

import ctypes

import pytest

from m2a.diagnosis.finding import Status
from m2a.diagnosis.nvidia import (
    driver_finding,
    gpu_finding,
    pycuda_finding,
    tensorrt_finding,
)
from m2a.machine.cuda_driver import CudaDriver, Gpu, ask_driver, read_driver
from m2a.machine.separate_process import Reply


class PlayedLibrary:
    """libcuda with the given GPUs, of which the named call returns an error code."""

    def __init__(self, gpus=(), *, failing="", code=0):
        self.gpus, self.failing, self.code = gpus, failing, code

    def _returns(self, call):
        return self.code if call == self.failing else 0

    def cuDriverGetVersion(self, version):  # noqa: N802 - NVIDIA's name, like those below
        version._obj.value = 12040
        return self._returns("cuDriverGetVersion")

    def cuInit(self, flags):  # noqa: N802
        assert flags.value == 0
        return self._returns("cuInit")

    def cuDeviceGetCount(self, count):  # noqa: N802
        count._obj.value = len(self.gpus)
        return 0

    def cuDeviceGet(self, device, index):  # noqa: N802
        device._obj.value = index.value
        return 0

    def cuDeviceGetName(self, name, length, device):  # noqa: N802
        assert length.value == len(name)
        name.value = self.gpus[device.value].name.encode()
        return 0

    def cuDeviceGetAttribute(self, value, attribute, device):  # noqa: N802
        major, minor = self.gpus[device.value].compute_capability.split(".")
        value._obj.value = int({75: major, 76: minor}[attribute.value])
        return 0

    def cuDeviceTotalMem_v2(self, size, device):  # noqa: N802
        size._obj.value = self.gpus[device.value].memory
        return self._returns("cuDeviceTotalMem_v2")

    def cuGetErrorName(self, code, name):  # noqa: N802
        if code.value == 803:
            name._obj.value = b"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"
            return 0
        return 1


GPUS = (
    Gpu(name="NVIDIA RTX A2000", compute_capability="8.6", memory=12 * 10**9),
    Gpu(name="Orin", compute_capability="8.7", memory=8 * 10**9),
)


def read(library):
    return read_driver(lambda name: library, ["libcuda.so.1"])


def absent(name):
    raise OSError(f"{name}: cannot open shared object file: No such file or directory")


def test_version_and_gpus_are_read_and_good():
    driver = read(PlayedLibrary(GPUS))
    assert driver == CudaDriver(version="12.4", gpus=GPUS)
    assert driver_finding(driver).status is gpu_finding(driver).status is Status.GOOD
    assert "12.4" in driver_finding(driver).found
    assert "NVIDIA RTX A2000, compute capability 8.6, 12.0 GB; Orin" in gpu_finding(driver).found


def test_no_libcuda_is_missing_and_not_broken():
    driver = read_driver(absent, ["libcuda.so.1", "/elsewhere/libcuda.so.1"])
    assert driver.absent
    assert driver_finding(driver).status is gpu_finding(driver).status is Status.MISSING


def test_a_real_loader_that_finds_nothing_is_missing():
    driver = read_driver(ctypes.CDLL, ["libm2a-is-no-such-driver.so.1"])
    assert driver_finding(driver).status is Status.MISSING


def test_a_later_place_is_tried():
    def load(name):
        return PlayedLibrary(GPUS) if name == "second" else absent(name)

    assert read_driver(load, ["first", "second"]).gpus == GPUS


def test_a_library_that_does_not_load_is_broken():
    def load(name):
        raise OSError(f"{name}: wrong ELF class: ELFCLASS32")

    finding = driver_finding(read_driver(load, ["libcuda.so.1"]))
    assert finding.status is Status.BROKEN
    assert "ELFCLASS32" in finding.found


def test_a_driver_without_a_gpu_is_good_and_the_gpu_missing():
    driver = read(PlayedLibrary(failing="cuInit", code=100))
    assert driver == CudaDriver(version="12.4")
    assert driver_finding(driver).status is Status.GOOD
    assert gpu_finding(driver).status is Status.MISSING
    assert "CUDA_VISIBLE_DEVICES" in gpu_finding(driver).remedy


@pytest.mark.parametrize("call", ["cuInit", "cuDriverGetVersion", "cuDeviceTotalMem_v2"])
def test_a_call_that_fails_is_broken_with_its_name_and_code(call):
    driver = read(PlayedLibrary(GPUS, failing=call, code=803))
    finding = driver_finding(driver)
    assert finding.status is Status.BROKEN
    assert f"{call} returned 803 (CUDA_ERROR_SYSTEM_DRIVER_MISMATCH)" in finding.found
    assert finding.remedy
    assert gpu_finding(driver).status is Status.MISSING


def test_a_code_without_a_name_is_still_told():
    found = driver_finding(read(PlayedLibrary(failing="cuInit", code=4711))).found
    assert "4711 (unknown to the driver)" in found


def test_a_library_without_the_functions_is_broken():
    assert driver_finding(read(object())).status is Status.BROKEN


def test_this_machine_answers_something():
    driver = ask_driver()
    assert driver.absent or driver.failure or driver.version


def answering(version):
    return lambda module: Reply(answer={"version": version})


def failing(reason):
    return lambda module: Reply(failure=reason)


@pytest.mark.parametrize(
    ("attempt", "status", "word"),
    [
        (None, Status.MISSING, "optional"),
        (answering("10.3.0"), Status.GOOD, "10.3.0"),
        (answering("11.0.1"), Status.GOOD, "11.0.1"),
        (answering("8.6.2"), Status.MISSING, "older than 10.3"),
        (failing("libnvinfer.so.10 is not here"), Status.BROKEN, "libnvinfer.so.10"),
    ],
)
def test_tensorrt(attempt, status, word):
    finding = tensorrt_finding("TensorRT", "tensorrt", oldest=(10, 3), attempt=attempt)
    assert finding.status is status
    assert word in finding.found
    assert bool(finding.remedy) == (status is not Status.GOOD)


@pytest.mark.parametrize(
    ("version", "attempt", "status"),
    [
        (None, failing("never asked"), Status.MISSING),
        ("2026.1", answering("unknown"), Status.GOOD),
        ("2026.1", failing("ImportError: libcuda.so.1: cannot open"), Status.MISSING),
        ("2026.1", failing("ImportError: undefined symbol"), Status.BROKEN),
    ],
)
def test_pycuda(version, attempt, status):
    assert pycuda_finding(find=lambda name: version, attempt=attempt).status is status
