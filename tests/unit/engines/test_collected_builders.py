"""TensorRT logs under a lock that freeing its objects takes too: no garbage is collected there.

It does where a builder's logger is not the one that it knows. Ours is, unless another package's
came first, as in the first two cases. Each runs in a process of its own, since one that fails
stands still for good.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("tensorrt_rtx")

BUILD = """
import gc, sys
from pathlib import Path
import tensorrt_rtx as trt
from m2a.engines import tensorrt
from m2a.engines.profiles import Profile, default_profiles
from m2a.engines.tensorrt_callbacks import shared_logger
from m2a.errors import EngineError

class Collecting(type(shared_logger(trt))):
    def log(self, severity, message):
        super().log(severity, message)
        if severity == trt.ILogger.WARNING:  # of all others there are hundreds
            collect()

def build(profiles):
    rtx = tensorrt.find_tensorrt("rtx")
    return tensorrt.build_plan(rtx, Path(sys.argv[1]).read_bytes(), profiles, target="sm86")

gc.collect()
gc.disable()
"""

A_BUILD_THAT_FAILED = """
collect = gc.collect
wrong = Profile(name="wrong", graph="mask", sizes={"H": (64, 32, 128), "W": (32, 64, 96)})
try:
    build([wrong])
except EngineError:
    pass
tensorrt.shared_logger = lambda module: Collecting()
print(len(build(default_profiles("mask")[:1]).content))
"""

A_BUILDER_IN_A_CYCLE = """
def collect():
    # Just as many objects as make the collector look for garbage, where it may.
    gc.set_threshold(1, 1, 1)
    many = [[] for _ in range(100)]
    gc.set_threshold(10**6)

gc.set_threshold(10**6)
gc.enable()
class Owner:
    pass
owner = Owner()
owner.itself, owner.builder = owner, trt.Builder(shared_logger(trt))
del owner
tensorrt.shared_logger = lambda module: Collecting()
print(len(build(default_profiles("mask")[:1]).content))
"""

A_BUILDER_THAT_LIVES = """
warnings = []
def log(self, severity, message):
    if "already registered" in message:
        warnings.append(message)

def listening(module):
    logger = shared_logger(module)
    type(logger).log = log
    return logger

tensorrt.shared_logger = listening
held = trt.Builder(listening(trt))
size = len(build(default_profiles("mask")[:1]).content)
assert not warnings, warnings
Collecting.log = log
trt.Builder(Collecting())
assert warnings, "another logger is taken without a word: then nothing was tested"
print(size)
"""


@pytest.mark.parametrize("left", [A_BUILD_THAT_FAILED, A_BUILDER_IN_A_CYCLE], ids=["failed", "own"])
def test_what_an_earlier_build_left_does_not_stop_the_next(graph, left):
    run(BUILD + left, graph)


def test_tensorrt_does_not_log_beside_a_build_that_goes_on(graph):
    """Where it would, it stood still when another thread freed a builder meanwhile."""
    run(BUILD + A_BUILDER_THAT_LIVES, graph)


@pytest.fixture
def graph(tiny_graphs, tmp_path):
    path = tmp_path / "mask.onnx"
    path.write_bytes(tiny_graphs["mask"].SerializeToString())
    return path


def run(script, graph):
    done = subprocess.run(
        [sys.executable, "-c", script, str(graph)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
