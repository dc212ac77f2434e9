"""A pycuda made up for tests: its GPU is the emulated device.

It has the names and signatures that pycuda 2026.1 declares, and insists that a context is current.
"""

from __future__ import annotations

import ctypes
import struct
import types

import numpy as np
from emulated_device import EmulatedDevice

from m2a.engines.pycuda_device import BLOCKS, THREADS
from m2a.runtime.gpu.device import Address


def make_pycuda(library):
    """The modules `pycuda.driver` and `pycuda.compiler`."""
    cuda, compiler = types.ModuleType("pycuda.driver"), types.ModuleType("pycuda.compiler")
    emulated = EmulatedDevice(library, threads=THREADS, blocks=BLOCKS)
    cuda.stack, cuda.memory_left, cuda.emulated = [], 1 << 30, emulated
    emulated.is_active = True

    class Error(Exception):
        pass

    class OutOfMemoryError(Error):
        pass

    class CompileError(Error):
        pass

    class Context:
        def push(self):
            cuda.stack.append(self)

        @staticmethod
        def pop():
            cuda.stack.pop()

        def __del__(self):
            cuda.detached = True

    class Device:
        def __init__(self, number):
            if not cuda.initialised:
                raise Error("cuInit was not called")
            if number > 0:
                raise Error("invalid device ordinal")

        def retain_primary_context(self):
            return Context()

    class Stream:
        def __init__(self, flags=0):
            current()
            self.handle = 0x5EED

        def synchronize(self):
            current()
            if cuda.fails:
                raise Error("an illegal memory access\nwas encountered")

    class DeviceAllocation:
        def __init__(self, size):
            self._memory = emulated.allocate(size)
            self._size = size

        def __int__(self):
            return int(self._memory.address)

        def free(self):
            current()
            cuda.memory_left += self._size
            self._memory.free()

    class Function:
        def __init__(self, name):
            self._name = name

        def prepare(self, arg_types):
            self._format = arg_types
            return self

        def prepared_async_call(self, grid, block, stream, *args):
            current()
            assert isinstance(stream, Stream)
            assert block == (THREADS, 1, 1)
            assert len(grid) == 2
            assert grid[1] == 1
            values = struct.unpack(self._format, struct.pack(self._format, *args))
            typed = [
                Address(value) if letter == "P" else value
                for letter, value in zip(self._format, values, strict=True)
            ]
            emulated.launch(self._name, grid[0], tuple(typed))

    class SourceModule:
        def __init__(self, source, nvcc="nvcc", options=None, no_extern_c=False):
            current()
            if compiler.fails is not None:
                raise compiler.fails
            assert no_extern_c, "the kernels say extern C themselves"
            assert f"-DM2A_THREADS={THREADS}" in options
            self.module = types.SimpleNamespace(get_function=Function)

    def current():
        assert cuda.stack, "no context is current"

    def init(flags=0):
        cuda.initialised = True

    def mem_alloc(size):
        current()
        if size > cuda.memory_left:
            raise OutOfMemoryError("cuMemAlloc failed: out of memory")
        cuda.memory_left -= size
        return DeviceAllocation(size)

    def memcpy_htod_async(dest, src, stream=None):
        current()
        assert type(dest) is int
        ctypes.memmove(dest, src.ctypes.data, src.nbytes)

    def memcpy_dtoh_async(dest, src, stream=None):
        current()
        assert type(src) is int
        ctypes.memmove(dest.ctypes.data, src, dest.nbytes)

    cuda.__dict__.update(
        Error=Error,
        MemoryError=OutOfMemoryError,
        CompileError=CompileError,
        Context=Context,
        Device=Device,
        Stream=Stream,
        init=init,
        mem_alloc=mem_alloc,
        mem_get_info=lambda: (cuda.memory_left, 1 << 30),
        memcpy_htod_async=memcpy_htod_async,
        memcpy_dtoh_async=memcpy_dtoh_async,
        pagelocked_empty=lambda shape, dtype, order="C", mem_flags=0: np.empty(shape, dtype),
        initialised=False,
        detached=False,
        fails=False,
    )
    compiler.SourceModule, compiler.fails = SourceModule, None
    return {"pycuda.driver": cuda, "pycuda.compiler": compiler}
