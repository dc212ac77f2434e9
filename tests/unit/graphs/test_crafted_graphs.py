"""Graphs that the contract allows and `m2a export` never writes: the rewrite keeps their results.

What it cannot keep them of stays as it is, and opens as before.
"""

from __future__ import annotations

import copy

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from m2a.graphs import proto_fields as fields
from m2a.graphs.for_cpu import rewrite_for_cpu
from m2a.graphs.integer_products import PRODUCT, fuse_products
from m2a.graphs.operations import Network
from m2a.graphs.sliced_gathers import slice_gathers
from m2a.graphs.wire import written

DEPTH, WIDTH = 8, 6

CONSTANTS = {
    "weight": np.random.default_rng(0).integers(-60, 60, (DEPTH, WIDTH)).astype(np.int8),
    "scales": np.linspace(0.01, 0.02, WIDTH, dtype=np.float32),
    "zeros": np.zeros(WIDTH, np.int8),
    "bias": np.linspace(-1, 1, WIDTH, dtype=np.float32),
    "zero_point": np.int8(0),
    "scale": np.float32(0.02),
}
ABSENT = np.zeros((1, DEPTH), np.float32)


def product(rows="x", result="y", *, scale="scale", zero_point="zero_point"):
    """Nodes of a quantised product with its bias."""
    there, back, weight, sums = (f"{result}:{part}" for part in ("there", "back", "weight", "sums"))
    stored = ["weight", "scales", "zeros"]
    return [
        helper.make_node("QuantizeLinear", [rows, scale, zero_point], [there]),
        helper.make_node("DequantizeLinear", [there, scale, zero_point], [back]),
        helper.make_node("DequantizeLinear", stored, [weight], axis=1),
        helper.make_node("MatMul", [back, weight], [sums]),
        helper.make_node("Add", [sums, "bias"], [result]),
    ]


def joined(absent):
    """A node that appends the row of an absent site."""
    return helper.make_node("Concat", ["x", absent], ["rows"], axis=0)


def serialised(nodes, *, inputs=("x",), outputs=("y",), **constants):
    """A model of FP32 matrices."""
    values = {**CONSTANTS, **constants}
    graph = helper.make_graph(
        nodes,
        "crafted",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, DEPTH]) for n in inputs],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    opsets = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def with_tensor(content, name, value, more):
    """The model with a tensor at its end, and what follows in the tensor's bytes."""
    tensor = numpy_helper.from_array(np.asarray(value), name).SerializeToString()
    return content + written(fields.Model.GRAPH, written(fields.Graph.INITIALIZER, tensor + more))


def check(content, *, products, **more_feeds):
    """As many products are written out, and the results are the same, bit for bit."""
    found = [node.op_type for node in onnx.load_from_string(fuse_products(content)).graph.node]
    assert found.count(PRODUCT) == products
    rows = np.random.default_rng(1).standard_normal((5, DEPTH)).astype(np.float32)
    feeds = {"x": rows, **more_feeds}
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    expected, result = (
        onnxruntime.InferenceSession(
            each,
            settings,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["MatMulAddFusion"],
        ).run(None, feeds)
        for each in (content, rewrite_for_cpu(content))
    )
    for one, other in zip(expected, result, strict=True):
        np.testing.assert_array_equal(one, other)
        assert np.abs(one).max() > 0


class TestNames:
    """Any string is a name, and no new tensor has one that stands in the graph."""

    def test_two_pairs_of_names_that_joined_are_one(self):
        nodes = [
            helper.make_node("Neg", ["x"], ["t"]),
            helper.make_node("Add", ["x", "x"], ["t/u"]),
            *product("t/u", "y", scale="s"),
            *product("t", "z", scale="u/s"),
        ]
        scales = {"s": np.float32(0.02), "u/s": np.float32(0.03)}
        check(serialised(nodes, outputs=("y", "z"), **scales), products=2)

    def test_a_scale_called_like_a_part_of_what_is_rounded(self):
        nodes = [
            joined("absent"),
            *product("rows", "y"),
            *product("rows", "z", scale="scale/present"),
        ]
        constants = {"absent": ABSENT, "scale/present": np.float32(0.03)}
        check(serialised(nodes, outputs=("y", "z"), **constants), products=2)

    def test_an_absent_row_called_like_the_zero_point(self):
        check(serialised([joined("zero"), *product("rows")], zero=ABSENT), products=1)

    @pytest.mark.parametrize("name", ["integer/zero", "integer/0"])
    def test_a_constant_whose_name_is_taken(self, name):
        added = helper.make_node("Add", ["y", name], ["z"])
        content = serialised([*product(), added], outputs=("z",), **{name: np.float32(3)})
        assert fuse_products(content) is content
        check(content, products=0)

    def test_an_input_whose_name_is_taken(self):
        added = helper.make_node("Concat", ["x", "integer/0"], ["rows"], axis=0)
        content = serialised([added, *product("rows")], inputs=("x", "integer/0"))
        check(content, products=0, **{"integer/0": np.ones((2, DEPTH), np.float32)})

    def test_a_constant_whose_name_is_taken_by_slices(self, tiny_graphs):
        model = copy.deepcopy(tiny_graphs["restore"])
        old, new = model.graph.initializer[0].name, "sliced/neighbours_0/slices"
        model.graph.initializer[0].name = new
        for node in model.graph.node:
            node.input[:] = [new if name == old else name for name in node.input]
        content = model.SerializeToString()
        assert slice_gathers(content) is content


class TestConstants:
    """What is read as a constant is what ONNX Runtime reads, or is left alone."""

    def test_a_default_of_an_input_is_none(self):
        content = serialised(
            [joined("absent"), *product("rows")], inputs=("x", "absent"), absent=ABSENT
        )
        assert Network(content).array("absent") is None
        assert Network(content).rank("absent") is None
        check(content, products=1, absent=np.ones((3, DEPTH), np.float32))

    def test_of_two_values_the_last_counts(self):
        def stored_twice(name, first, last):
            again = written(fields.Tensor.RAW_DATA, np.asarray(last).tobytes())
            return with_tensor(serialised(nodes), name, first, again)

        nodes = product(zero_point="other")
        check(stored_twice("other", np.int8(0), np.int8(9)), products=0)
        nodes = [joined("absent"), *product("rows")]
        check(stored_twice("absent", ABSENT, ABSENT + 1), products=1)

    @pytest.mark.parametrize("field", [3, 4, 5, 6, 7, 10, 11])
    def test_values_beside_raw_bytes(self, field):
        content = serialised(product())
        assert Network(with_tensor(content, "one", ABSENT, b"")).is_zero("one")
        assert (
            Network(with_tensor(content, "one", ABSENT, written(field, b"1234"))).array("one")
            is None
        )

    def test_a_number_where_raw_bytes_should_be(self):
        tensor = b"".join(
            (
                written(fields.Tensor.DATA_TYPE, 3),
                written(fields.Tensor.NAME, "one"),
                written(fields.Tensor.RAW_DATA, 0),
            )
        )
        content = serialised(product())
        content += written(fields.Model.GRAPH, written(fields.Graph.INITIALIZER, tensor))
        assert Network(content).array("one") is None

    def test_one_that_many_products_read_is_looked_at_once(self, monkeypatch):
        """Otherwise the time grows with the products times the size of what they share."""
        looked_at = []

        class Watched(np.ndarray):
            def any(self, *args, **kwargs):
                looked_at.append(self.shape)
                return super().any(*args, **kwargs)

        array = Network.array

        def watched(network, name):
            found = array(network, name)
            return None if found is None else found.view(Watched)

        monkeypatch.setattr(Network, "array", watched)
        results = tuple(f"y{number}" for number in range(9))
        nodes = [node for result in results for node in product(result=result)]
        content = serialised(nodes, outputs=results)
        assert fuse_products(content) != content
        assert sorted(looked_at) == [(), (WIDTH,)]


class TestOrder:
    """ONNX Runtime sorts nodes by itself; the rewrite only takes those in order."""

    def test_an_addition_before_its_product(self):
        *nodes, added = product()
        content = serialised([added, *nodes])
        assert fuse_products(content) is content
        check(content, products=0)

    def test_an_operation_that_reads_itself_is_not_in_order(self):
        assert Network(serialised(product())).in_order()
        assert not Network(serialised([helper.make_node("Neg", ["y"], ["y"])])).in_order()

    def test_a_restorer_is_not_sliced(self, tiny_graphs):
        model = copy.deepcopy(tiny_graphs["restore"])
        model.graph.node.insert(0, helper.make_node("Floor", ["residual"], ["more"]))
        content = model.SerializeToString()
        assert slice_gathers(content) is content
