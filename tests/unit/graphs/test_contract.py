"""The contract check: the exported graphs pass, and every breach is named."""

from __future__ import annotations

import copy
import subprocess
import sys

import onnx
import pytest
from onnx import TensorProto, helper

from m2a.errors import ContractError
from m2a.graphs.contract import (
    CONTRACTS,
    RESTORE_OPERATORS,
    check_contract,
    check_serialised,
)


@pytest.fixture
def restore(tiny_graphs):
    return copy.deepcopy(tiny_graphs["restore"])


@pytest.fixture
def mask(tiny_graphs):
    return copy.deepcopy(tiny_graphs["mask"])


def breaches(model: onnx.ModelProto, graph: str) -> str:
    with pytest.raises(ContractError) as caught:
        check_contract(model, graph)
    return str(caught.value)


@pytest.mark.parametrize("name", CONTRACTS)
def test_an_exported_graph_keeps_its_contract(tiny_graphs, name):
    check_contract(tiny_graphs[name], name)
    onnx.checker.check_model(tiny_graphs[name], full_check=True)


@pytest.mark.parametrize(
    "operator", ["NonZero", "GatherND", "ScatterND", "Loop", "If", "GridSample"]
)
def test_operators_of_data_dependent_shape_are_not_allowed(operator):
    assert operator not in RESTORE_OPERATORS


def test_the_other_graphs_contract_is_broken(restore):
    assert "expected ['image']" in breaches(restore, "mask")


def test_a_wrong_opset_is_reported(mask):
    mask.opset_import[0].version = 18
    assert "operator sets {'ai.onnx': 18}, expected ai.onnx 20 alone" in breaches(mask, "mask")


def test_a_second_operator_set_is_reported(mask):
    mask.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert "'com.microsoft': 1" in breaches(mask, "mask")


def test_a_wrong_ir_version_is_reported(mask):
    mask.ir_version = 11
    assert "IR version 11, expected 10" in breaches(mask, "mask")


def test_a_forbidden_operator_is_reported(restore):
    restore.graph.node.append(helper.make_node("NonZero", ["patches"], ["where"]))
    assert "operators ['NonZero'], which are not in the list" in breaches(restore, "restore")


def test_an_operator_of_a_foreign_domain_is_reported_with_it(restore):
    node = helper.make_node("Gather", ["patches", "parents_0"], ["x"], domain="com.microsoft")
    restore.graph.node.append(node)
    assert "com.microsoft.Gather" in breaches(restore, "restore")


@pytest.mark.parametrize("outputs", [["first", ""], ["", "second"], []])
def test_an_output_without_a_name_is_reported(restore, outputs):
    """ONNX Runtime's Split ends the process at one, by a segmentation fault."""
    restore.graph.node.append(helper.make_node("Split", ["patches"], outputs, axis=1))
    assert "outputs without a name of ['Split'], expected one" in breaches(restore, "restore")


def test_a_local_function_is_reported(mask):
    mask.functions.append(
        helper.make_function("local", "f", ["x"], ["y"], [], [helper.make_opsetid("", 20)])
    )
    assert "1 local functions" in breaches(mask, "mask")


def test_a_renamed_input_is_reported(restore):
    restore.graph.input[0].name = "pixels"
    message = breaches(restore, "restore")
    assert "inputs ['pixels'," in message
    assert "expected ['patches'," in message


def test_inputs_in_another_order_are_reported(restore):
    first, second = (copy.deepcopy(restore.graph.input[n]) for n in (0, 1))
    restore.graph.input[0].CopyFrom(second)
    restore.graph.input[1].CopyFrom(first)
    assert "inputs ['neighbours_0', 'patches'," in breaches(restore, "restore")


def test_a_missing_output_is_reported(restore):
    del restore.graph.output[1]
    assert "outputs ['residual'], expected ['residual', 'motion']" in breaches(restore, "restore")


def test_a_changed_dtype_is_reported(restore):
    restore.graph.input[1].type.tensor_type.elem_type = TensorProto.INT64
    message = breaches(restore, "restore")
    assert f"input neighbours_0 is type {TensorProto.INT64}['N0', 9]" in message
    assert "expected int32['N0', 9]" in message


def test_a_fixed_dimension_is_reported(mask):
    mask.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 96
    assert "output mask is float32[1, 1, 96, 'W']" in breaches(mask, "mask")


def test_a_weight_outside_the_file_is_reported(mask):
    tensor = mask.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    assert f"weights outside the file: ['{tensor.name}']" in breaches(mask, "mask")


def test_every_breach_is_in_one_message(mask):
    mask.ir_version = 9
    mask.graph.input[0].name = "picture"
    message = breaches(mask, "mask")
    assert "IR version 9" in message
    assert "'picture'" in message


def test_weights_that_name_a_file_are_reported_whatever_their_location_says(mask):
    tensor = mask.graph.initializer[0]
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    assert f"weights outside the file: ['{tensor.name}']" in breaches(mask, "mask")


def test_graphs_and_tensors_inside_attributes_are_reported(mask):
    """Where a second graph, or weights outside the file, could hide."""
    inner = helper.make_graph([], "inner", [], [])
    node = mask.graph.node[0]
    node.attribute.append(helper.make_attribute("body", inner))
    assert f"inside attributes of ['{node.op_type}']" in breaches(mask, "mask")
    del node.attribute[-1]
    tensor = helper.make_tensor("t", TensorProto.FLOAT, [1], [0.0])
    node.attribute.append(helper.make_attribute("value", tensor))
    assert f"inside attributes of ['{node.op_type}']" in breaches(mask, "mask")


def test_sparse_weights_and_graphs_for_training_are_reported(mask):
    mask.graph.sparse_initializer.add()
    mask.training_info.add()
    message = breaches(mask, "mask")
    assert "sparse weights" in message
    assert "graphs for training" in message


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x00" * 64, b"\x3a\x7f"])
def test_other_bytes_are_refused(content):
    with pytest.raises(ContractError, match="the graph 'mask'"):
        check_serialised(content, "mask")


def test_a_cut_graph_is_refused(mask):
    content = mask.SerializeToString()
    with pytest.raises(ContractError, match="is not an ONNX model"):
        check_serialised(content[: len(content) // 2], "mask")


def test_the_check_needs_no_onnx():
    script = "import sys, m2a.graphs.contract; sys.exit('onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
