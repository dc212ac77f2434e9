"""The kernels on the CPU under the compiler's sanitizers: nothing beyond an array is touched.

Tables lie one after the other in one allocation, in which an index that is wrong shows in their
content alone; everything else has an allocation of its own.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from emulated_device import build_library, find_compiler

from m2a.runtime.gpu.device import kernels_source

TESTS = Path(__file__).parents[3]

PROGRAM = """
import sys
import numpy as np
from emulated_device import EmulatedDevice
from kernel_cases import check_mask, check_means, check_picture, check_tables, check_turned
from m2a.runtime.ensemble import turns_of
from masks import KINDS, draw_mask

rng = np.random.default_rng(0)
for descending in (False, True):
    device = EmulatedDevice(sys.argv[1], descending=descending)
    for kind in KINDS:
        check_tables(device, draw_mask(kind, 40, 70, seed=1))
    for radius in (0, 3, 10**9):
        check_mask(device, rng.random((33, 65), dtype=np.float32), 0.9, radius)
    for shape in ((1, 1, 3), (33, 40), (40, 33, 4)):
        mask = draw_mask("random", *shape[:2], seed=2)
        residual = rng.normal(0, 0.5, (int(mask.sum()), 3)).astype(np.float32)
        check_picture(device, rng.integers(0, 256, shape, np.uint8), mask, residual)
        check_means(device, mask, turns_of(8), seed=3)
        for turn in turns_of(8):
            check_turned(device, rng.integers(0, 256, shape, np.uint8), mask, turn)
print("done")
"""


@pytest.fixture(scope="module")
def library_of_asan():
    compiler = find_compiler()
    path = ""
    if compiler is not None:
        command = [compiler, "-print-file-name=libasan.so"]
        path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    if not Path(path).is_absolute() or platform.system() != "Linux":
        assert not os.environ.get("CI"), "CI has GCC's address sanitizer"
        pytest.skip("needs GCC's address sanitizer, libasan.so")
    return path


def run(folder, asan, source):
    options = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O0")
    library = build_library(folder, source=source, options=options)
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(library)],
        env={
            **os.environ,
            "LD_PRELOAD": asan,
            # Python does not free all; fibers have stacks of their own.
            "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
            "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]),
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_kernel_leaves_its_arrays_or_overflows(tmp_path, library_of_asan):
    done = run(tmp_path, library_of_asan, kernels_source())
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"


def test_the_sanitizer_sees_what_it_is_there_to_see(tmp_path, library_of_asan):
    source, right = kernels_source(), "reflect(y, height) * width"
    assert right in source
    wrong = source.replace(right, "reflect(y, height + 1) * width")
    done = run(tmp_path, library_of_asan, wrong)
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr
