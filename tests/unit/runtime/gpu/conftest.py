"""The kernels on the CPU; see `tests/emulation.hpp` for what that proves."""

from __future__ import annotations

import pytest
from emulated_device import EmulatedDevice, OrtEngine

from m2a.runtime.backends import open_runners
from m2a.runtime.bundle import GRAPHS, open_bundle
from m2a.runtime.gpu.deblurrer import GpuDeblurrer


@pytest.fixture(params=[False, True], ids=["ascending", "descending"])
def device(emulated_kernels, request):
    """Threads run in either order: what a barrier is missing for differs."""
    return EmulatedDevice(emulated_kernels, descending=request.param)


@pytest.fixture
def open_on_device(device, tiny_bundle):
    """Opens the tiny bundle on the emulated device, ONNX Runtime in the place of the engines."""

    def open_it(engine=OrtEngine, **settings):
        bundle = open_bundle(tiny_bundle)
        runners = open_runners(
            [bundle.graph(name, precision="fp32") for name in GRAPHS], backend="ort-cpu"
        )
        engines = dict(zip(GRAPHS, map(engine, runners), strict=True))
        return GpuDeblurrer(
            bundle,
            device=device,
            **engines,
            backend="emulated",
            precision="fp32",
            **{
                "threshold": bundle.threshold,
                "dilate": bundle.dilate,
                "max_memory": 2**31,
                **settings,
            },
        )

    return open_it
