"""TensorRT takes the graphs as they are, in the types they state: built without a GPU."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
import tensorrt_rtx as trt

from m2a.engines.build import precision_as_built
from m2a.engines.profiles import Profile, default_profiles
from m2a.engines.tensorrt import FLAVOURS, TensorRT, build_plan, find_tensorrt
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
    with pytest.raises(MissingDependencyError, match=r"m2a\[tensorrt\]"):
        find_tensorrt()
    with pytest.raises(MissingDependencyError, match=r"m2a\[tensorrt-rtx\]"):
        find_tensorrt("rtx")
    with pytest.raises(UsageError, match="'cuda', expected trt or rtx"):
        find_tensorrt("cuda")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", CONTRACTS)
def test_an_engine_is_built_in_the_types_of_the_graph(tensorrt, tiny_graphs, name, precision):
    model = tiny_graphs[name] if precision == "fp32" else to_float16(tiny_graphs[name])
    told = []
    plan, cache = build_plan(
        tensorrt,
        model.SerializeToString(),
        default_profiles(name),
        target="sm86",
        report=lambda *progress: told.append(progress),
    )
    assert len(plan.content) > 1000
    assert plan.seconds > 0
    assert cache is None  # TensorRT for RTX times nothing
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


def test_a_tensorrt_that_cannot_build_ahead_of_time_says_so(tiny_graphs):
    class Old:
        __version__ = "10.3.0"

        class IBuilderConfig:
            pass

    with pytest.raises(UsageError, match=r"tensorrt 10\.3\.0 .* none: it builds for the GPU at"):
        build_plan(
            TensorRT("trt", Old), tiny_graphs["mask"].SerializeToString(),
            default_profiles("mask"), target="sm86",
        )  # fmt: skip


def test_what_is_no_graph_is_refused_in_tensorrts_words(tensorrt):
    with pytest.raises(EngineError, match=r"TensorRT does not take the graph: .+"):
        build_plan(tensorrt, b"no model", default_profiles("mask"), target="sm86")


def test_a_profile_that_does_not_ascend_is_refused(tensorrt, tiny_graphs):
    wrong = Profile(name="wrong", graph="mask", sizes={"H": (64, 32, 128), "W": (32, 64, 96)})
    with pytest.raises(EngineError, match=r"profile 'wrong'|fail"):
        build_plan(tensorrt, tiny_graphs["mask"].SerializeToString(), [wrong], target="sm86")


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
    plan, _ = build_plan(tensorrt, graph, default_profiles("restore")[:1], target="sm86")
    assert plan.content
