"""TensorRT takes the graphs of both sizes in every precision, for cards of three generations.

One engine for all three: built without a GPU, and its types read from the parsed network.
"""

from __future__ import annotations

import onnx
import pytest
import tensorrt_rtx as trt
from random_network import random_network

from m2a.engines.profiles import default_profiles
from m2a.engines.sidecar import precision_as_built
from m2a.export.parity import measure_parity, parity_cases
from m2a.export.trace import trace_mask, trace_restore
from m2a.graphs.contract import CONTRACTS
from m2a.graphs.float16 import to_float16
from m2a.graphs.int8 import quantizable, to_int8
from m2a.models import PRESETS
from m2a.runtime.bundle import PACKAGED, open_bundle

TARGETS = ("SM86", "SM89", "SM120")


@pytest.fixture(scope="module")
def base():
    """The network with random weights, and its graphs."""
    network = random_network(PRESETS["base"], seed=0)
    return network, {"mask": trace_mask(network), "restore": trace_restore(network)}


@pytest.fixture(scope="module", params=PRESETS)
def graphs(request):
    """Those of `small` are the packaged model's; `base` is traced with random weights."""
    if request.param == "small":
        bundle = open_bundle(PACKAGED)
        assert bundle.manifest["model"]["name"] == "small"
        contents = {name: bundle.graph(name, precision="fp32") for name in CONTRACTS}
        return {name: onnx.load_model_from_string(graph) for name, graph in contents.items()}
    return request.getfixturevalue("base")[1]


def test_the_graphs_of_base_compute_what_the_network_does(base):
    """Beyond the limit it raises; `small` is exported whole in `test_end_to_end.py`."""
    network, graphs = base
    serialised = {name: graph.SerializeToString() for name, graph in graphs.items()}
    errors = measure_parity(network, serialised, parity_cases())
    assert set(errors) == {
        "mask: batch norms folded",
        "mask: onnxruntime",
        *(f"restore.{what}: {form}" for what in ("residual", "motion")
          for form in ("gathered", "onnxruntime")),
    }  # fmt: skip


def typed(model, precision):
    if precision == "fp16":
        return to_float16(model)
    if precision == "int8":
        return to_int8(model, dict.fromkeys(quantizable(model).values(), 6.0))
    return model


def layer_types(network):
    """Kind of layer → type of its result → how many."""
    found = {}
    for number in range(network.num_layers):
        layer = network.get_layer(number)
        types = found.setdefault(layer.type.name, {})
        name = layer.get_output_type(0).name
        types[name] = types.get(name, 0) + 1
    return found


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("name", CONTRACTS)
def test_one_engine_for_three_generations_of_cards(graphs, name, precision):
    model = typed(graphs[name], precision)
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(model.SerializeToString()), parser.get_error(0).desc()
    config = builder.create_builder_config()
    config.num_compute_capabilities = len(TARGETS)
    for place, target in enumerate(TARGETS):
        config.set_compute_capability(getattr(trt.ComputeCapability, target), place)
    for sizes in default_profiles(name):
        profile = builder.create_optimization_profile()
        for number in range(network.num_inputs):
            tensor = network.get_input(number).name
            profile.set_shape(tensor, *sizes.shapes(tensor))
        config.add_optimization_profile(profile)
    types = layer_types(network)
    assert precision_as_built(types) == precision
    weights = len(quantizable(model if precision != "int8" else graphs[name]))
    products = sum(types.get("CONVOLUTION", {}).values())
    products += sum(types.get("MATRIX_MULTIPLY", {}).values())
    if precision == "int8":
        pairs = types["QUANTIZE"]["INT8"]
        assert types["DEQUANTIZE"]["FLOAT"] == pairs + weights  # of activations, and of weights
        assert 0 < weights <= products
    else:
        assert "QUANTIZE" not in types
    plan = builder.build_serialized_network(network, config)
    assert plan is not None
    assert plan.nbytes > 1000
