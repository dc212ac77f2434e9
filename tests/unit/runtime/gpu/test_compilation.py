"""The kernels as NVIDIA's compiler sees them; it needs no GPU. Nothing is run here."""

from __future__ import annotations

import re
import sys

import pytest
from emulated_device import kernel_names

from m2a.runtime.gpu.device import kernels_source

ARCHITECTURES = ("sm_87", "sm_90", "sm_120")
"""Orin, Hopper, and the RTX cards of 2025."""

if sys.platform == "linux":
    from cuda.bindings import nvrtc
else:
    pytest.skip("NVIDIA's compiler comes as a wheel for Linux", allow_module_level=True)


def compile_source(source, architecture, *options):
    """Returns the compiler's log and the machine code; None where it refuses."""
    program = checked(nvrtc.nvrtcCreateProgram(source.encode(), b"kernels.cu", 0, [], []))
    flags = [f"--gpu-architecture={architecture}", "--std=c++17", *options]
    done = nvrtc.nvrtcCompileProgram(program, len(flags), [flag.encode() for flag in flags])
    log = memory(checked(nvrtc.nvrtcGetProgramLogSize(program)))
    checked(nvrtc.nvrtcGetProgramLog(program, log))
    if done[0] != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        return log.decode(), None
    code = memory(checked(nvrtc.nvrtcGetCUBINSize(program)))
    checked(nvrtc.nvrtcGetCUBIN(program, code))
    return log.decode(), code


def memory(size):
    """Bytes for the compiler to write into, which is how its bindings take them.

    Never a single one: Python keeps one object for each of those, and all that use it would find it
    overwritten.
    """
    return b" " * max(size, 2)


def checked(answer):
    outcome, *values = answer
    assert outcome == nvrtc.nvrtcResult.NVRTC_SUCCESS
    return values[0] if values else None


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_kernels_compile_without_a_warning_and_keep_to_registers(architecture):
    log, code = compile_source(kernels_source(), architecture, "--ptxas-options=-v")
    assert code is not None, log
    assert "warning" not in log
    assert "error" not in log
    names = kernel_names(kernels_source())
    assert sorted(re.findall(r"Compiling entry function '(\w+)'", log)) == sorted(names)
    frames = re.findall(
        r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log
    )
    assert len(frames) >= len(names)
    assert set(frames) == {("0", "0", "0")}
    for name in names:
        assert name.encode() in code


def test_the_compiler_sees_what_it_is_there_to_see():
    broken = kernels_source().replace("*flag = 0;", "*flag = none;")
    log, code = compile_source(broken, "sm_87")
    assert code is None
    assert '"none" is undefined' in log


def test_a_block_of_any_size_compiles():
    log, code = compile_source(kernels_source(), "sm_87", "-DM2A_THREADS=1024")
    assert code is not None, log
