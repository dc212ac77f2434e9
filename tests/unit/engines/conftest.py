"""The CPU for a GPU, and a made-up TensorRT."""

from __future__ import annotations

import shutil

import pytest
from emulated_device import EmulatedDevice
from engine_cases import MACHINE
from made_up_tensorrt import STREAM, make_tensorrt

import m2a.engines.deblurrer
from m2a.engines.tensorrt import TensorRT
from m2a.runtime.bundle import open_bundle


@pytest.fixture
def bundle(tiny_bundle, tmp_path):
    """A copy, to which engines may be added."""
    return open_bundle(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.fixture
def gpu(emulated_kernels, monkeypatch):
    """This machine has two GPUs, TensorRT and pycuda, as far as the backend can tell.

    `gpu.trt` is the module, `gpu.opened` the numbers of the GPUs that were opened.
    """

    class Gpu:
        trt = make_tensorrt()
        opened: list[int] = []  # noqa: RUF012 - the class lives as long as the test

    class Device(EmulatedDevice):
        stream = STREAM

        def __init__(self, number):
            super().__init__(emulated_kernels)
            Gpu.opened.append(number)

    monkeypatch.setattr(m2a.engines.deblurrer, "this_machine", lambda: MACHINE)
    monkeypatch.setattr(m2a.engines.deblurrer, "import_pycuda", lambda: None)
    monkeypatch.setattr(m2a.engines.deblurrer, "PycudaDevice", Device)
    monkeypatch.setattr(
        m2a.engines.deblurrer, "find_tensorrt", lambda flavour: TensorRT(flavour, Gpu.trt)
    )
    return Gpu
