"""The GPU through pycuda, against a made-up pycuda; on a real one see `tests/gpu`."""

from __future__ import annotations

import gc
import importlib

import numpy as np
import pytest
from emulated_device import build_library
from kernel_cases import check_mask, check_picture, check_tables
from made_up_pycuda import make_pycuda
from masks import draw_mask

from m2a.engines.pycuda_device import THREADS, PycudaDevice, _primary_context
from m2a.errors import BackendError


@pytest.fixture(scope="module")
def library(emulated_kernels, tmp_path_factory):
    return build_library(tmp_path_factory.mktemp("kernels"), threads=THREADS)


@pytest.fixture
def pycuda(library, monkeypatch):
    modules = make_pycuda(library)
    real = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", lambda name: modules.get(name) or real(name))
    return modules


def test_the_kernels_give_numpys_tables_with_the_block_of_a_gpu(pycuda):
    device = PycudaDevice(0)
    check_tables(device, draw_mask("random", 70, 100, seed=0))
    rng = np.random.default_rng(0)
    check_mask(device, rng.random((40, 33), dtype=np.float32), 0.97, 3)
    mask = draw_mask("random", 40, 33, seed=1)
    residual = rng.normal(0, 0.3, (int(mask.sum()), 3)).astype(np.float32)
    check_picture(device, rng.integers(0, 256, (40, 33, 3), np.uint8), mask, residual)


def test_the_primary_context_is_current_only_within(pycuda):
    cuda = pycuda["pycuda.driver"]
    mine = object()
    cuda.stack.append(mine)
    device = PycudaDevice(0)
    assert cuda.stack == [mine]
    with device.active():
        assert cuda.stack[0] is mine
        assert len(cuda.stack) == 2
    assert cuda.stack == [mine]
    with pytest.raises(ZeroDivisionError), device.active():
        1 / 0  # noqa: B018
    assert cuda.stack == [mine]


def test_the_primary_context_is_never_detached(pycuda):
    """pycuda would call what is not for primary contexts, and warn on standard error."""
    device = PycudaDevice(0)
    del device
    _primary_context.cache_clear()
    gc.collect()
    assert not pycuda["pycuda.driver"].detached


def test_memory_that_is_not_there_is_an_error_with_figures(pycuda):
    device = PycudaDevice(0)
    pycuda["pycuda.driver"].memory_left = 10**6
    with device.active():
        device.allocate(10**5).free()
        with pytest.raises(BackendError, match="2 MB more were wanted, 1 of 1074 MB are free"):
            device.allocate(2 * 10**6)


def test_a_failure_on_the_gpu_is_an_error_on_one_line(pycuda):
    device = PycudaDevice(0)
    pycuda["pycuda.driver"].fails = True
    with device.active(), pytest.raises(BackendError, match="GPU failed: an illegal memory access"):
        device.wait()


def test_a_gpu_that_is_not_there_is_an_error(pycuda):
    with pytest.raises(BackendError, match="CUDA cannot be used: invalid device ordinal"):
        PycudaDevice(1)


def test_a_missing_compiler_is_an_error_that_says_what_to_install(pycuda):
    pycuda["pycuda.compiler"].fails = FileNotFoundError("No such file or directory: 'nvcc'")
    with pytest.raises(BackendError, match=r"nvcc cannot be run.*Install the CUDA toolkit"):
        PycudaDevice(0)


def test_kernels_that_do_not_compile_are_an_error(pycuda):
    error = pycuda["pycuda.driver"].CompileError
    pycuda["pycuda.compiler"].fails = error("nvcc compilation failed\n[stderr: no such arch]")
    with pytest.raises(BackendError, match=r"does not compile m2a's CUDA kernels: .*no such arch"):
        PycudaDevice(0)


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libcuda.so.1: cannot open shared object file: No such file or directory"),
        ModuleNotFoundError("No module named 'pytools'", name="pytools"),
    ],
)
def test_a_pycuda_that_cannot_be_loaded_is_told(monkeypatch, error):
    def fails(name):
        raise error

    monkeypatch.setattr(importlib, "import_module", fails)
    with pytest.raises(BackendError, match="pycuda cannot be loaded: "):
        PycudaDevice(0)
