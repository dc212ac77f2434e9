"""TensorRT takes the graphs as they are: TensorRT-RTX builds ahead of time without a GPU."""

from __future__ import annotations

import pytest
import tensorrt_rtx as trt

from m2a.graphs.contract import CONTRACTS

RANGES = {
    "H": (32, 64, 128),
    "W": (32, 64, 128),
    "N0": (1, 1024, 16384),
    "N1": (1, 256, 4096),
    "N2": (1, 64, 1024),
    "N3": (1, 16, 256),
    "P2": (64, 256, 1024),
}
"""Dimension → smallest, optimal and largest size in the profile."""


class Messages(trt.ILogger):
    """Keeps what TensorRT says."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []

    def log(self, severity, message):
        if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
            self.errors.append(message)


@pytest.fixture(scope="module")
def logger():
    return Messages()


@pytest.fixture(scope="module")
def builder(logger):
    return trt.Builder(logger)


def parsed(builder, logger, graph):
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    ok = parser.parse(graph.SerializeToString())
    assert ok, [str(parser.get_error(n)) for n in range(parser.num_errors)]
    return network, parser


@pytest.mark.parametrize("name", CONTRACTS)
def test_the_parser_takes_the_graph_with_the_contracts_ports(builder, logger, tiny_graphs, name):
    network, _parser = parsed(builder, logger, tiny_graphs[name])
    dtypes = {trt.float32: "float32", trt.int32: "int32"}
    for count, get, ports in (
        (network.num_inputs, network.get_input, CONTRACTS[name].inputs),
        (network.num_outputs, network.get_output, CONTRACTS[name].outputs),
    ):
        tensors = [get(n) for n in range(count)]
        assert [t.name for t in tensors] == [port.name for port in ports]
        assert [dtypes[t.dtype] for t in tensors] == [port.dtype for port in ports]


@pytest.mark.parametrize("name", CONTRACTS)
def test_an_engine_is_built_from_the_graph(builder, logger, tiny_graphs, name):
    network, _parser = parsed(builder, logger, tiny_graphs[name])
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    profile = builder.create_optimization_profile()
    for port in CONTRACTS[name].inputs:
        shapes = [
            tuple(RANGES[dim][which] if isinstance(dim, str) else dim for dim in port.shape)
            for which in range(3)
        ]
        profile.set_shape(port.name, *shapes)
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    assert engine is not None, logger.errors
    assert memoryview(engine).nbytes > 1000
