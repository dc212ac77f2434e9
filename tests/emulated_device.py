"""A device that is the CPU: the kernels of `kernels.cu` compiled by the host's compiler.

See `emulation.hpp` for what that proves and what it does not.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np

from m2a.errors import BackendError
from m2a.runtime.gpu.device import ALIGNMENT, Address, kernels_source, signature

THREADS = 16
LIBC = ctypes.CDLL(None)
HERE = Path(__file__).parent
OUTCOMES = ("done", "the arguments are not the kernel's", "the block is not one of M2A_THREADS",
            "a barrier was not met by all threads")  # fmt: skip


def kernel_names(source):
    """The names of all kernels; those of `FOR_TYPE` once for each of its uses."""
    names = re.findall(r'^extern "C" __global__ void (\w+)\(', source, re.MULTILINE)
    typed = re.findall(r"__global__ void (\w+_)##SUFFIX\(", source)
    suffixes = re.findall(r"^FOR_TYPE\(\w+, (\w+)\)$", source, re.MULTILINE)
    return [*names, *(name + suffix for name in typed for suffix in suffixes)]


def find_compiler():
    return next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)


def build_library(folder, *, source=None, threads=THREADS, options=()):
    """Compiles the kernels; returns the shared library's path."""
    source = kernels_source() if source is None else source
    (folder / "kernels.cu").write_text(source)
    launchers = "\n".join(
        f'extern "C" int launch_{name}(unsigned b, unsigned t, int d, const char* s, void** a) '
        f"{{ return launch({name}, b, t, d, s, a); }}"
        for name in kernel_names(source)
    )
    program = folder / "emulated.cpp"
    program.write_text(f'#include "emulation.hpp"\n#include "kernels.cu"\n{launchers}\n')
    library = folder / "emulated.so"
    done = subprocess.run(
        [
            *(find_compiler(), "-std=c++17", "-O1", "-shared", "-fPIC"),
            *("-Wall", "-Wextra", "-Werror", "-ffp-contract=off", *options),
            *(f"-DM2A_THREADS={threads}", f"-I{HERE}", str(program), "-o", str(library)),
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return library


class Memory:
    """An allocation from the C library, filled with what nobody should read."""

    def __init__(self, size):
        place = ctypes.c_void_p()
        assert (
            LIBC.posix_memalign(
                ctypes.byref(place), ctypes.c_size_t(ALIGNMENT), ctypes.c_size_t(size)
            )
            == 0
        )
        self._place = place
        self.address = Address(place.value)
        self.freed = False
        ctypes.memset(place, 0xA5, size)

    def free(self):
        assert not self.freed, "freed twice"
        self.freed = True
        LIBC.free(self._place)

    def __del__(self):
        if not self.freed:
            self.free()


class EmulatedDevice:
    """See `m2a.runtime.gpu.device.Device`. What is queued is done at once."""

    def __init__(self, library, *, threads=THREADS, blocks=3, descending=False):
        self.threads, self.blocks = threads, blocks
        self._descending = descending
        self.allocations: list[Memory] = []
        self.launched: list[str] = []
        self.downloads: list[int] = []
        self.waits = 0
        self.is_active = False
        self._library = ctypes.CDLL(str(library))

    @contextlib.contextmanager
    def active(self):
        assert not self.is_active
        self.is_active = True
        try:
            yield
        finally:
            self.is_active = False

    def allocate(self, size):
        """Of the size that was asked for and no more, so that a sanitizer sees what is beyond."""
        assert self.is_active
        if size > 1 << 31:
            raise BackendError("out of memory")
        self.allocations.append(Memory(size))
        return self.allocations[-1]

    def pinned(self, size):
        assert self.is_active
        return np.full(size, 0xCD, np.uint8)

    def upload(self, target, source):
        assert self.is_active
        assert source.flags.c_contiguous
        ctypes.memmove(target, source.ctypes.data, source.nbytes)

    def download(self, target, source):
        assert self.is_active
        assert target.flags.c_contiguous
        self.downloads.append(target.nbytes)
        ctypes.memmove(target.ctypes.data, source, target.nbytes)

    def launch(self, kernel, blocks, arguments):
        assert self.is_active
        assert 0 < blocks <= self.blocks
        self.launched.append(kernel)
        types = signature(arguments)
        ctype = {"P": ctypes.c_void_p, "i": ctypes.c_int, "f": ctypes.c_float}
        values = [ctype[t](a) for t, a in zip(types, arguments, strict=True)]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(v) for v in values))
        launch = getattr(self._library, f"launch_{kernel}")
        outcome = launch(blocks, self.threads, self._descending, types.encode(), pointers)
        assert outcome == 0, f"{kernel}({types}): {OUTCOMES[outcome]}"

    def wait(self):
        assert self.is_active
        self.waits += 1


class OrtEngine:
    """An engine that is ONNX Runtime, on memory that is the CPU's."""

    def __init__(self, runner):
        self._runner = runner
        self.enqueued: list[dict] = []

    def enqueue(self, ports):
        self.enqueued.append({name: tensor.shape for name, tensor in ports.items()})
        for tensor in ports.values():
            assert tensor.address % ALIGNMENT == 0, "TensorRT wants aligned addresses"
        outputs = self.OUTPUTS & ports.keys()
        feeds = {
            name: at(tensor, np.float32 if name in ("image", "patches") else np.int32).copy()
            for name, tensor in ports.items()
            if name not in outputs
        }
        found = self._runner.run(feeds)
        assert found.keys() == outputs
        for name in outputs:
            at(ports[name], np.float32)[...] = found[name]

    OUTPUTS = frozenset({"mask", "residual", "motion"})


def at(tensor, dtype):
    """The tensor as an array over the same memory."""
    size = int(np.prod(tensor.shape)) * np.dtype(dtype).itemsize
    memory = (ctypes.c_uint8 * size).from_address(tensor.address)
    return np.frombuffer(memory, dtype).reshape(tensor.shape)
