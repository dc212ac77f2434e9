"""The FP16 variant: what stays in FP32, that types agree, and what is refused."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from m2a.errors import ContractError, PrecisionError
from m2a.graphs.contract import CONTRACTS, check_contract
from m2a.graphs.float16 import float_tensors, fp32_nodes, to_float16

DISPLACEMENTS = {"Tanh", "Floor", "Where"}


@pytest.fixture(scope="module")
def half(tiny_graphs):
    return {name: to_float16(model) for name, model in tiny_graphs.items()}


def types_by_operator(model):
    """Operator → the float types of the node outputs."""
    types = float_tensors(model.graph)
    found = {}
    for node in model.graph.node:
        for output in node.output:
            if output in types:
                found.setdefault(node.op_type, set()).add(types[output])
    return found


@pytest.mark.parametrize("name", CONTRACTS)
def test_the_ports_and_operators_keep_the_contract(half, name):
    check_contract(half[name], name, precision="fp16")


def test_casts_are_no_part_of_the_fp32_contract(half):
    with pytest.raises(ContractError, match=r"operators \['Cast'\]"):
        check_contract(half["mask"], "mask")


@pytest.mark.parametrize("name", CONTRACTS)
def test_the_original_is_not_changed(tiny_graphs, name):
    before = tiny_graphs[name].SerializeToString()
    to_float16(tiny_graphs[name])
    assert tiny_graphs[name].SerializeToString() == before


def test_norms_and_displacements_stay_in_fp32_and_gathers_do_not(half):
    types = types_by_operator(half["restore"])
    for operator in {"LayerNormalization", *DISPLACEMENTS}:
        assert types[operator] == {TensorProto.FLOAT}, operator
    assert types["Gather"] == {TensorProto.FLOAT16}
    mask = types_by_operator(half["mask"])
    assert mask["Sigmoid"] == {TensorProto.FLOAT}
    assert mask["Conv"] == {TensorProto.FLOAT16}


def test_all_products_but_those_of_residual_and_motion_are_in_fp16(half):
    model = half["restore"]
    types = float_tensors(model.graph)
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    single = [node for node in products if types[node.output[0]] == TensorProto.FLOAT]
    widths = {
        numpy_helper.to_array(tensor).shape[1]
        for node in single
        for tensor in model.graph.initializer
        if tensor.name == node.input[1]
    }
    assert len(single) == 2
    assert widths == {3, 4}  # RGB, and the four coefficients
    assert len(products) > 10


def test_half_the_bytes(half, tiny_graphs):
    """But for the two small products, every weight is stored in half precision, and only so."""
    for name in CONTRACTS:
        bytes_of = [
            sum(
                len(tensor.raw_data)
                for tensor in model.graph.initializer
                if numpy_helper.to_array(tensor).ndim > 1
            )
            for model in (half[name], tiny_graphs[name])
        ]
        assert bytes_of[0] < 0.56 * bytes_of[1]


def test_no_node_mixes_types(half):
    """The checker's inference would not notice a Concat of a constant of the other type."""
    for model in half.values():
        types = float_tensors(model.graph)
        for node in model.graph.node:
            if node.op_type == "Cast":
                continue
            kinds = {types[name] for name in [*node.input, *node.output] if name in types}
            assert len(kinds) <= 1, node.name


def test_no_tensor_is_cast_twice_and_no_cast_does_nothing(half):
    for model in half.values():
        types = float_tensors(model.graph)
        casts = [n for n in model.graph.node if n.op_type == "Cast" and n.output[0] in types]
        assert len({(n.input[0], types[n.output[0]]) for n in casts}) == len(casts)
        assert all(types[n.input[0]] != types[n.output[0]] for n in casts if n.input[0] in types)


def test_weights_beyond_the_range_are_refused_by_name(tiny_graphs):
    model = copy.deepcopy(tiny_graphs["restore"])
    kept = fp32_nodes(model.graph)
    readers = [n for n in model.graph.node if n.op_type == "MatMul" and n.name not in kept]
    wanted = {readers[0].input[1], readers[1].input[1]}
    for tensor, value in zip(
        [t for t in model.graph.initializer if t.name in wanted], (70_000.0, np.nan), strict=True
    ):
        values = numpy_helper.to_array(tensor).copy()
        values.flat[3] = value
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    with pytest.raises(PrecisionError) as caught:
        to_float16(model)
    assert all(name in str(caught.value) for name in wanted)
    assert "7e+04" in str(caught.value)


def test_a_large_weight_of_a_product_in_fp32_is_no_obstacle(tiny_graphs):
    model = copy.deepcopy(tiny_graphs["restore"])
    kept = fp32_nodes(model.graph)
    product = next(n for n in model.graph.node if n.op_type == "MatMul" and n.name in kept)
    tensor = next(t for t in model.graph.initializer if t.name == product.input[1])
    values = numpy_helper.to_array(tensor).copy()
    values.flat[0] = 70_000.0
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.checker.check_model(to_float16(model), full_check=True)
