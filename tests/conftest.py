"""Fixtures that several test files share; torch is imported by those that need it."""

from __future__ import annotations

import gc
import os
import signal

import pytest
from workers import IS_WORKER, once_for_all_workers

if IS_WORKER:
    # They share the cores: all of torch's threads in each would hinder the others.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Ray's workers are polite: beside another worker's tests and a busy machine they would starve.
    os.environ.setdefault("RAY_worker_niceness", "0")


def pytest_collection_finish():
    """What was imported stays: the garbage collector need not look through it again and again."""
    if IS_WORKER:
        gc.collect()
        gc.freeze()


def pytest_sessionfinish():
    gc.unfreeze()  # else nanobind tells at the end that its objects leak


@pytest.fixture(scope="session", autouse=IS_WORKER)
def one_thread_in_onnx_runtime():
    """m2a's sessions take one: their threads spin, and two in each worker take the other's core.

    Commands in processes of their own keep as many as there are cores.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("m2a.runtime.backends.usable_cores", lambda: 1)
        yield


@pytest.fixture(scope="session")
def tiny_network():
    from random_network import TINY, random_network

    return random_network(TINY, seed=0)


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_network, tmp_path_factory):
    from m2a.models.checkpoint import save_checkpoint

    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(tiny_network, path)
    return path


@pytest.fixture(scope="session")
def tiny_export(tiny_checkpoint, tmp_path_factory):
    """The report of one export of the tiny network; copy its bundle before changing it."""
    from m2a.export import export_bundle

    def export(folder):
        return export_bundle(tiny_checkpoint, folder / "bundle", metrics={"gain_db": 1.5})

    return once_for_all_workers("exported", export, tmp_path_factory)


@pytest.fixture(scope="session")
def tiny_bundle(tiny_export):
    return tiny_export.bundle


@pytest.fixture(scope="session")
def tiny_graphs(tiny_bundle):
    """Graph name → the exported model; copy a model before changing it."""
    import onnx

    return {name: onnx.load(tiny_bundle / "fp32" / f"{name}.onnx") for name in ("mask", "restore")}


@pytest.fixture(scope="session")
def emulated_kernels(tmp_path_factory):
    """The library of the CUDA kernels compiled for the CPU."""
    from emulated_device import build_library, find_compiler

    if find_compiler() is None:
        assert not os.environ.get("CI"), "CI has a C++ compiler"
        pytest.skip("running the CUDA kernels on the CPU needs a C++ compiler")
    return build_library(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="session")
def chromium_window(tmp_path_factory):
    """Headless Chromium, opened once; see `chromium.open_chromium`."""
    from chromium import open_chromium

    driver = open_chromium(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium_window):
    """Headless Chromium, whose page does not live on beside the tests that follow."""
    yield chromium_window
    chromium_window.get("about:blank")


@pytest.fixture
def interruptible():
    """A shell starts what runs in its background with Ctrl-C ignored, and Python leaves it so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
