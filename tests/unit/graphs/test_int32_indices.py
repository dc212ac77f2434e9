"""The rewrite Gather(x, Cast<int64>(rows)) → Gather(x, rows): fires, refuses, keeps the numbers."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from m2a.graphs.int32_indices import gather_with_int32, refusal

DATA = np.arange(12, dtype=np.float32).reshape(4, 3)
ROWS = np.array([3, 0, 2, 2], np.int32)


def cast(output="wide", source="rows", to=TensorProto.INT64):
    return helper.make_node("Cast", [source], [output], name=f"cast_{output}", to=to)


def gather(output="y", rows="wide", **attributes):
    return helper.make_node("Gather", ["data", rows], [output], name=output, **attributes)


def model_of(*nodes, outputs=("y",), rows_type=TensorProto.INT32):
    types = {"wide": (TensorProto.INT64, ["N"]), "float_rows": (TensorProto.FLOAT, ["N"])}
    matrix = (TensorProto.FLOAT, [None, None])
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("rows", rows_type, ["N"])],
        [helper.make_tensor_value_info(name, *types.get(name, matrix)) for name in outputs],
        [numpy_helper.from_array(DATA, "data")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model, rows=ROWS):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"rows": rows})


def casts(model):
    return [node for node in model.graph.node if node.op_type == "Cast"]


def test_it_removes_the_cast_of_a_gathers_index():
    model = model_of(cast(), gather())
    assert gather_with_int32(model) == 1
    assert [node.op_type for node in model.graph.node] == ["Gather"]
    assert model.graph.node[0].input[1] == "rows"


def test_it_removes_a_cast_that_several_gathers_share_and_counts_it_once():
    model = model_of(cast(), gather(), gather("z"), outputs=("y", "z"))
    assert gather_with_int32(model) == 1
    assert not casts(model)


def test_it_counts_every_cast():
    model = model_of(cast(), cast("wider"), gather(), gather("z", rows="wider"), outputs=("y", "z"))
    assert gather_with_int32(model) == 2


def test_it_finds_nothing_the_second_time():
    model = model_of(cast(), gather())
    gather_with_int32(model)
    assert gather_with_int32(model) == 0


@pytest.mark.parametrize(("axis", "rows"), [(0, ROWS), (1, np.array([2, 0, 0], np.int32))])
def test_the_result_is_numerically_equal(axis, rows):
    model = model_of(cast(), gather(axis=axis))
    before = run(model, rows)
    gather_with_int32(model)
    onnx.checker.check_model(model, full_check=True)
    for a, b in zip(before, run(model, rows), strict=True):
        assert np.array_equal(a, b)


REFUSALS = {
    "does not cast to int64": model_of(
        helper.make_node("Cast", ["rows"], ["float_rows"], name="cast_y", to=TensorProto.FLOAT),
        outputs=("float_rows",),
    ),
    "feeds an output of the graph": model_of(cast(), gather(), outputs=("y", "wide")),
    "is read by Add": model_of(
        cast(),
        helper.make_node("Add", ["wide", "wide"], ["twice"], name="adds"),
        gather(),
        gather("z", rows="twice"),
        outputs=("y", "z"),
    ),
    "is read by Gather": model_of(
        cast(),
        helper.make_node("Gather", ["wide", "wide"], ["g"], name="of_itself"),
        gather(rows="g"),
    ),
    "does not read int32": model_of(cast(), gather(), rows_type=TensorProto.INT16),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_it_refuses_with_a_reason_and_changes_nothing(reason):
    model = copy.deepcopy(REFUSALS[reason])
    onnx.checker.check_model(model, full_check=True)
    node = casts(model)[0]
    assert reason in refusal(model, node)
    assert node.name in refusal(model, node)
    assert gather_with_int32(model) == 0
    assert model == REFUSALS[reason]


def test_it_has_no_reason_where_it_fires():
    model = model_of(cast(), gather())
    assert refusal(model, casts(model)[0]) is None


def test_the_exported_restoration_graph_gathers_with_int32_alone(tiny_graphs):
    """The largest integer tensors, the neighbour tables, have no int64 copy."""
    model = copy.deepcopy(tiny_graphs["restore"])
    targets = {attribute.i for node in casts(model) for attribute in node.attribute}
    assert TensorProto.INT64 not in targets
    assert gather_with_int32(model) == 0
