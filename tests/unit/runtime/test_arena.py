"""Memory of several graphs of one process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from m2a.runtime.bundle import open_bundle

RESIDENT = """
import sys
import numpy as np
import onnxruntime
from m2a.runtime import backends
from m2a.runtime.backends import open_runners

if sys.argv[2] == "own":
    backends.share_arena = lambda runtime, settings: None
graph = open(sys.argv[1], "rb").read()
runners = open_runners([graph] * 4, backend="ort-cpu", threads=1)
image = np.zeros((1, 3, 1024, 1024), np.float32)
for runner in runners:
    runner.run({"image": image})
pages = int(open("/proc/self/statm").read().split()[1])
print(pages * 4096)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_graphs_that_run_one_after_another_share_their_memory(tiny_bundle):
    """Four graphs hold what one takes; each with an arena of its own, all hold it."""
    path = tiny_bundle / open_bundle(tiny_bundle).graphs["fp32"]["mask"].path

    def resident(arena):
        command = [sys.executable, "-c", RESIDENT, str(path), arena]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        return int(done.stdout)

    shared, own = resident("shared"), resident("own")
    assert own - shared > 20 * 2**20, (own, shared)
