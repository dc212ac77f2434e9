"""Tests that need a GPU; without one each is skipped and says why."""

from __future__ import annotations

import pytest

from m2a.machine.cuda_driver import ask_driver


@pytest.fixture(scope="session")
def gpu():
    """The first GPU through pycuda."""
    driver = ask_driver()
    if not driver.gpus:
        pytest.skip(f"needs an NVIDIA GPU: {driver.failure or 'the driver offers none'}")
    pytest.importorskip("pycuda", reason="needs pycuda: pip install -e '.[tensorrt]'")
    from m2a.engines.pycuda_device import PycudaDevice

    return PycudaDevice(0)


@pytest.fixture
def bundle_with_engines():
    """The bundle to run on the GPU: $M2A_BUNDLE or the packaged one, with FP32 engines."""
    from m2a.engines.machine import this_machine
    from m2a.engines.selection import choose_engines
    from m2a.errors import EngineError
    from m2a.runtime.bundle import find_bundle

    bundle = find_bundle(None, working_directory=False)
    try:
        choose_engines(bundle, precision="fp32", machine=this_machine())
    except EngineError as error:
        pytest.skip(str(error))
    return bundle
