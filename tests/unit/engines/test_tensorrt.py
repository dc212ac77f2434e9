"""TensorRT takes the graphs as they are, in the types they state: built without a GPU."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import ModuleType

import pytest
import tensorrt_rtx as trt

from m2a.engines.profiles import Profile, default_profiles
from m2a.engines.sidecar import precision_as_built
from m2a.engines.tensorrt import (
    FLAVOURS,
    TensorRT,
    build_plan,
    find_tensorrt,
    merge_timings,
)
from m2a.engines.tensorrt_callbacks import make_monitor
from m2a.errors import EngineError, MissingDependencyError, UsageError
from m2a.graphs.contract import CONTRACTS
from m2a.graphs.float16 import to_float16


@pytest.fixture(scope="module")
def tensorrt():
    return find_tensorrt("rtx")


def network_of(graph):
    """The network, and what must live as long as it does."""
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    assert parser.parse(graph), [str(parser.get_error(n)) for n in range(parser.num_errors)]
    return network, (builder, parser)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", CONTRACTS)
def test_the_parsed_network_has_the_contracts_ports(tiny_graphs, name, precision):
    model = tiny_graphs[name] if precision == "fp32" else to_float16(tiny_graphs[name])
    network, _alive = network_of(model.SerializeToString())
    dtypes = {trt.float32: "float32", trt.int32: "int32"}
    for count, get, ports in (
        (network.num_inputs, network.get_input, CONTRACTS[name].inputs),
        (network.num_outputs, network.get_output, CONTRACTS[name].outputs),
    ):
        tensors = [get(n) for n in range(count)]
        assert [t.name for t in tensors] == [port.name for port in ports]
        assert [dtypes[t.dtype] for t in tensors] == [port.dtype for port in ports]


def test_it_is_found_and_tells_what_it_builds_for(tensorrt):
    assert (tensorrt.flavour, tensorrt.module) == ("rtx", trt)
    assert {"sm86", "sm89", "sm120"} <= set(tensorrt.targets)
    assert list(tensorrt.targets) == sorted(tensorrt.targets, key=lambda name: int(name[2:]))


def test_without_a_flavour_the_installed_one_is_taken(monkeypatch):
    monkeypatch.setitem(FLAVOURS, "trt", "tensorrt_that_is_not_installed")
    assert find_tensorrt().flavour == "rtx"


def test_what_is_not_installed_names_its_extra(monkeypatch):
    for flavour in FLAVOURS:
        monkeypatch.setitem(FLAVOURS, flavour, "tensorrt_that_is_not_installed")
    with pytest.raises(MissingDependencyError, match=r"\.\[tensorrt\]"):
        find_tensorrt()
    with pytest.raises(MissingDependencyError, match=r"\.\[tensorrt-rtx\]"):
        find_tensorrt("rtx")
    with pytest.raises(UsageError, match="'cuda', expected trt or rtx"):
        find_tensorrt("cuda")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", CONTRACTS)
def test_an_engine_is_built_in_the_types_of_the_graph(tensorrt, tiny_graphs, name, precision):
    model = tiny_graphs[name] if precision == "fp32" else to_float16(tiny_graphs[name])
    told = []
    plan = build_plan(
        tensorrt,
        model.SerializeToString(),
        default_profiles(name),
        target="sm86",
        report=lambda *progress: told.append(progress),
    )
    assert len(plan.content) > 1000
    assert plan.seconds > 0
    assert precision_as_built(plan.layer_types) == precision
    phases = {phase for phase, _, _ in told}
    assert phases
    for phase in phases:
        steps = [(done, total) for p, done, total in told if p == phase]
        assert steps[0][0] == 0
        assert steps[-1][0] == steps[-1][1] > 1


def test_another_target_is_refused_with_those_there_are(tensorrt, tiny_graphs):
    with pytest.raises(UsageError, match=r"does not build for sm87 .* sm75, .*sm86"):
        build_plan(
            tensorrt, tiny_graphs["mask"].SerializeToString(), default_profiles("mask"),
            target="sm87",
        )  # fmt: skip


def planted(name, version):
    """A TensorRT that is installed and can build for the GPU at hand alone."""
    module = ModuleType(name)
    module.__version__ = version
    module.IBuilderConfig = type("IBuilderConfig", (), {})
    return module


def test_one_that_cannot_build_ahead_of_time_names_the_one_that_can(tiny_graphs):
    graph = tiny_graphs["mask"].SerializeToString()
    old = TensorRT("trt", planted("tensorrt", "10.3.0"))
    with pytest.raises(UsageError, match=r"10\.3\.0 builds for the GPU at hand alone.*rtx"):
        build_plan(old, graph, default_profiles("mask"), target="sm86")


def test_with_targets_the_flavour_that_can_is_taken(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", planted("tensorrt", "10.3.0"))
    assert find_tensorrt().flavour == "trt"
    assert find_tensorrt(ahead_of_time=True).flavour == "rtx"
    assert find_tensorrt("trt", ahead_of_time=True).flavour == "trt"


def test_a_tensorrt_that_is_too_old_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", planted("tensorrt", "8.6.1.post1"))
    with pytest.raises(EngineError, match=r"tensorrt 8\.6\.1\.post1 is too old, expected 10\.3"):
        find_tensorrt()


class PlayedCache:
    """A timing cache that remembers which others went into it."""

    def __init__(self, content):
        self.content = content

    def combine(self, other, ignore_mismatch):
        assert ignore_mismatch
        self.content += b"+" + other.content

    def serialize(self):
        return self.content


class PlayedConfig:
    def create_timing_cache(self, content):
        return None if content == b"of another GPU" else PlayedCache(content)


@pytest.mark.parametrize(
    ("latest", "merged"),
    [(b"", b"mine"), (b"theirs", b"mine+theirs"), (b"of another GPU", b"mine")],
)
def test_timings_of_other_builds_are_not_lost(latest, merged):
    assert merge_timings(PlayedConfig(), PlayedCache(b"mine"), latest) == merged


def test_the_monitor_follows_the_outermost_phases_and_stops_when_told():
    told, stop = [], threading.Event()
    monitor = make_monitor(trt, lambda *progress: told.append(progress), stop)
    monitor.phase_start("Build", None, 2)
    monitor.phase_start("Inner", "Build", 9)
    assert monitor.step_complete("Inner", 0)
    assert monitor.step_complete("Build", 0)
    monitor.phase_finish("Inner")
    stop.set()
    assert not monitor.step_complete("Inner", 1)
    monitor.phase_finish("Build")
    assert told == [("Build", 0, 2), ("Build", 1, 2), ("Build", 2, 2)]


def test_what_is_no_graph_is_refused_in_tensorrts_words(tensorrt):
    with pytest.raises(EngineError, match=r"TensorRT does not take the graph: .+"):
        build_plan(tensorrt, b"no model", default_profiles("mask"), target="sm86")


def test_a_profile_that_does_not_ascend_is_refused(tensorrt, tiny_graphs):
    wrong = Profile(name="wrong", graph="mask", sizes={"H": (64, 32, 128), "W": (32, 64, 96)})
    with pytest.raises(EngineError, match=r"'wrong'|profile"):
        build_plan(tensorrt, tiny_graphs["mask"].SerializeToString(), [wrong], target="sm86")


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_a_build_and_the_next_one_works(tensorrt, tiny_graphs):
    graph = tiny_graphs["restore"].SerializeToString()
    interrupted = threading.Event()

    def interrupt(*_):
        if not interrupted.is_set():
            interrupted.set()
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)

    with pytest.raises(KeyboardInterrupt):
        build_plan(tensorrt, graph, default_profiles("restore"), target="sm86", report=interrupt)
    assert not [t for t in threading.enumerate() if t.name.startswith("tensorrt")]
    plan = build_plan(tensorrt, graph, default_profiles("restore")[:1], target="sm86")
    assert plan.content
