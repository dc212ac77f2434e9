"""A GPU through pycuda: see `m2a.runtime.gpu.device.Device`.

`tests/gpu` passed on it once, on an H200 with pycuda 2026.1 and CUDA 13.0; engines have never run.
In CI it runs on a made-up pycuda with the same declarations, whose memory is the host's and
whose kernels are those of `tests/emulated_device.py`.

TensorRT works in the primary context of a GPU, as all that builds on the CUDA runtime does, so it
is used here too, and is current only within `active`: the caller's own contexts stay as they were.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2a.errors import BackendError, MissingDependencyError
from m2a.runtime.backends import one_line
from m2a.runtime.gpu.device import Address, Argument, kernels_source, signature

THREADS = 256

BLOCKS = 4096
"""More than any GPU runs at once: what is beyond goes round the kernels' loops."""

OPTIONS = ("-std=c++17", f"-DM2A_THREADS={THREADS}")
"""For NVIDIA's compiler."""


class PycudaDevice:
    """The GPU with that number, its primary context, and one stream.

    Raises:
        MissingDependencyError: pycuda is not installed.
        BackendError: the driver or the CUDA compiler cannot be used.
    """

    threads = THREADS
    blocks = BLOCKS

    def __init__(self, number: int) -> None:
        self._cuda = import_pycuda()
        self._lock = threading.Lock()
        self._functions: dict[tuple[str, str], Any] = {}
        with _as_backend_error(self._cuda, "CUDA cannot be used"):
            self._cuda.init()
            self._context = _primary_context(self._cuda, number)
        with self.active(), _as_backend_error(self._cuda, "CUDA cannot be used"):
            self._stream = self._cuda.Stream()
            self._module = _compile(self._cuda)

    @property
    def stream(self) -> int:
        """The stream's handle."""
        return int(self._stream.handle)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """See `Device.active`."""
        with self._lock:
            with _as_backend_error(self._cuda, "the GPU cannot be used"):
                self._context.push()
            try:
                yield
            finally:
                self._cuda.Context.pop()

    def allocate(self, size: int) -> PycudaAllocation:
        """See `Device.allocate`."""
        try:
            return PycudaAllocation(self._cuda.mem_alloc(size))
        except self._cuda.MemoryError as error:
            free, total = self._cuda.mem_get_info()
            raise BackendError(
                f"the GPU has not enough memory: {size / 1e6:.0f} MB more were wanted, "
                f"{free / 1e6:.0f} of {total / 1e6:.0f} MB are free; take a smaller picture or mask"
            ) from error

    def pinned(self, size: int) -> NDArray[Any]:
        """See `Device.pinned`."""
        with _as_backend_error(self._cuda, f"cannot pin {size / 1e6:.0f} MB of memory"):
            memory: NDArray[Any] = self._cuda.pagelocked_empty(size, np.uint8)
            return memory

    def upload(self, target: Address, source: NDArray[Any]) -> None:
        """See `Device.upload`."""
        with _as_backend_error(self._cuda, "the upload failed"):
            self._cuda.memcpy_htod_async(int(target), source, self._stream)

    def download(self, target: NDArray[Any], source: Address) -> None:
        """See `Device.download`."""
        with _as_backend_error(self._cuda, "the download failed"):
            self._cuda.memcpy_dtoh_async(target, int(source), self._stream)

    def launch(self, kernel: str, blocks: int, arguments: tuple[Argument, ...]) -> None:
        """See `Device.launch`."""
        types = signature(arguments)
        with _as_backend_error(self._cuda, f"the kernel {kernel} failed"):
            function = self._functions.get((kernel, types))
            if function is None:
                # Not a plain call: pycuda keeps its arguments packed by their values, for which
                # 1 and 1.0 are the same.
                function = self._module.get_function(kernel).prepare(types)
                self._functions[kernel, types] = function
            function.prepared_async_call((blocks, 1), (THREADS, 1, 1), self._stream, *arguments)

    def wait(self) -> None:
        """See `Device.wait`."""
        with _as_backend_error(self._cuda, "the GPU failed"):
            self._stream.synchronize()


class PycudaAllocation:
    """See `m2a.runtime.gpu.device.Allocation`. Freed when nobody refers to it, too."""

    def __init__(self, allocation: Any) -> None:  # noqa: ANN401 - pycuda has no types
        self._allocation = allocation
        self.address = Address(int(allocation))

    def free(self) -> None:
        """See `Allocation.free`; within `active`, in whatever thread."""
        self._allocation.free()


def import_pycuda() -> Any:  # noqa: ANN401 - pycuda has no types
    """Imports pycuda's driver module, or says what is missing.

    Raises:
        MissingDependencyError: pycuda is not installed.
        BackendError: it is installed and cannot be loaded.
    """
    try:
        return importlib.import_module("pycuda.driver")
    except ModuleNotFoundError as error:
        if error.name not in ("pycuda", "pycuda.driver"):
            raise BackendError(f"pycuda cannot be loaded: {error}") from error
        raise MissingDependencyError(
            "pycuda", extra="tensorrt", purpose="The backend 'tensorrt'"
        ) from error
    except ImportError as error:
        raise BackendError(
            f"pycuda cannot be loaded: {one_line(error)}; where libcuda is named, the NVIDIA "
            "driver is missing. See `m2a doctor`"
        ) from error


@functools.cache
def _primary_context(cuda: Any, number: int) -> Any:  # noqa: ANN401 - pycuda has no types
    """A GPU's primary context, which stays until the process ends.

    pycuda would give it back by cuCtxDetach, which is not for primary contexts, and print a
    warning: so its object never dies. The driver gives the context back.
    """
    context = cuda.Device(number).retain_primary_context()
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(context))
    return context


def _compile(cuda: Any) -> Any:  # noqa: ANN401 - pycuda has no types
    compiler = importlib.import_module("pycuda.compiler")
    try:
        with warnings.catch_warnings():
            # pycuda warns of whatever the compiler says, be it a remark.
            warnings.simplefilter("ignore")
            return compiler.SourceModule(
                kernels_source(), options=list(OPTIONS), no_extern_c=True
            ).module
    except cuda.CompileError as error:
        raise BackendError(
            f"nvcc does not compile m2a's CUDA kernels: {one_line(error)}"
        ) from error
    except OSError as error:
        raise BackendError(
            f"the backend 'tensorrt' compiles its CUDA kernels when it is opened, and nvcc cannot "
            f"be run: {one_line(error)}. Install the CUDA toolkit, and put its folder bin on PATH"
        ) from error


@contextlib.contextmanager
def _as_backend_error(cuda: Any, what: str) -> Iterator[None]:  # noqa: ANN401
    try:
        yield
    except cuda.Error as error:
        raise BackendError(f"{what}: {one_line(error)}") from error
