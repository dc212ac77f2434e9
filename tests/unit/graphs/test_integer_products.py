"""The rewrite of quantised products for the CPU: fires, refuses, keeps every bit."""

from __future__ import annotations

import copy
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from m2a.graphs.for_cpu import SLICES_OF_INTEGERS, rewrite_for_cpu
from m2a.graphs.int8 import quantizable, to_int8
from m2a.graphs.integer_products import DOMAIN, PRODUCT, fuse_products
from m2a.graphs.operations import Network
from m2a.graphs.row_regions import find_regions
from m2a.graphs.sliced_gathers import slice_gathers
from m2a.runtime.backends import open_runners
from m2a.runtime.sites import build_sites


@pytest.fixture(scope="module")
def quantised(tiny_graphs):
    """The tiny restorer in INT8; copy it before changing it."""
    model = tiny_graphs["restore"]
    return to_int8(model, dict.fromkeys(quantizable(model).values(), 6.0))


@pytest.fixture(scope="module")
def restore(quantised):
    return quantised.SerializeToString()


def operators(content):
    return Counter(node.op_type for node in onnx.load_from_string(content).graph.node)


def feeds_of(active, *, seed=0):
    """Feeds of a picture of 64 · 96 pixels, as many of them restored, at random places."""
    random = np.random.default_rng(seed)
    mask = np.zeros(64 * 96, bool)
    mask[random.permutation(mask.size)[:active]] = True
    sites = build_sites(mask.reshape(64, 96))
    return {"patches": random.random((len(sites.pixels), 75), np.float32), **sites.tables}


def session(content, optimised=None):
    """ONNX Runtime's own session of a graph, with nothing rewritten by m2a."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    if optimised is not None:
        settings.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(
        content,
        settings,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["MatMulAddFusion"],
    )


def check_equal(contents, feeds):
    """Compares bit for bit what serialised models compute."""
    expected, *others = (session(content).run(None, feeds) for content in contents)
    for found in others:
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_array_equal(one, other)
            assert np.abs(one).max() > 0


def test_all_quantised_products_are_written_out(restore):
    """Of the tiny restorer: 7 blocks, each a gate and its projection, 3 steps down, 3 up, a mix."""
    before, after = operators(restore), operators(fuse_products(restore))
    assert before["MatMul"] == 7 * 2 + 3 + 3 + 1
    assert after["MatMul"] == after["DequantizeLinear"] == 0
    assert after[PRODUCT] == 7 * (2 + 1) + 3 + 3 + 1  # a gate is two products
    assert before["Split"] - after["Split"] == 7
    assert after["QuantizeLinear"] == 21
    assert after["Add"] == before["Add"] - 21  # the biases
    checked = onnx.load_from_string(fuse_products(restore))
    assert {entry.domain: entry.version for entry in checked.opset_import} == {"": 20, DOMAIN: 1}


@pytest.mark.parametrize("active", [1, 2, 25, 1000, 64 * 96])
def test_every_bit_is_kept_with_fewer_sites_than_slices_and_with_more(restore, active):
    check_equal((restore, fuse_products(restore), rewrite_for_cpu(restore)), feeds_of(active))


@pytest.mark.parametrize("active", [1, 300])
def test_it_gives_what_the_pairs_give_one_by_one(restore, active):
    """The sums of FP32 differ by rounding; next to a step's edge that is a whole step."""
    feeds = feeds_of(active, seed=1)
    fast, slow = (
        open_runners([restore], backend="ort-cpu", optimize=optimise)[0].run(feeds)
        for optimise in (True, False)
    )
    for name, expected in slow.items():
        error = np.sqrt(np.square(fast[name] - expected).mean())
        assert error < 0.01 * np.sqrt(np.square(expected).mean()), name


def test_onnx_runtime_computes_it_in_integers(restore, tmp_path):
    """Counted in the graph that it makes of it: bytes are gathered and multiplied, in slices."""
    session(rewrite_for_cpu(restore), tmp_path / "optimised.onnx")
    graph = onnx.load(tmp_path / "optimised.onnx").graph
    makers = {name: node for node in graph.node for name in node.output}
    found = Counter(node.op_type for node in graph.node)
    zero, one, two, three = (SLICES_OF_INTEGERS[level] for level in range(4))
    blocks, down, trajectories = 2 * (zero + one + two) + three, one + two + three, two
    assert found[PRODUCT] == 2 * blocks + 7 + down + 3 + trajectories
    assert found["DequantizeLinear"] == 0
    rows = {node.input[0] for node in graph.node if node.op_type == PRODUCT}  # bytes, as it takes
    reshaped = [makers[name].input[0] for name in rows if makers[name].op_type == "Reshape"]
    gathered = [name for name in reshaped if makers[name].op_type == "Gather"]
    assert len(gathered) == blocks + down


def test_a_region_ends_with_bytes_rather_than_with_their_product_in_fp32(restore):
    network = Network(fuse_products(restore))
    ends = Counter(
        network.operations[region.operations[-1]].operator
        for region in find_regions(network)
        if region.refusal is None
    )
    # Blocks end before their projection; the others have one product alone.
    assert ends == {"QuantizeLinear": 7, PRODUCT: 3 + 1}


def test_a_graph_without_quantised_products_is_returned_itself(tiny_graphs, restore):
    for model in tiny_graphs.values():
        content = model.SerializeToString()
        assert fuse_products(content) is content
        assert rewrite_for_cpu(content) == slice_gathers(content)
    mask = tiny_graphs["mask"]
    convolutions = to_int8(mask, dict.fromkeys(quantizable(mask).values(), 6.0))
    content = convolutions.SerializeToString()
    assert fuse_products(content) is content
    assert rewrite_for_cpu(content) is content
    again = fuse_products(restore)
    assert fuse_products(again) is again


def test_what_stays_in_fp32_is_left_alone(tiny_graphs):
    model = tiny_graphs["restore"]
    parts = quantizable(model)
    ranges = dict.fromkeys(parts.values(), 6.0)
    kept = [name for name in parts if ".conv." in name]
    content = to_int8(model, ranges, keep=kept).SerializeToString()
    fused = fuse_products(content)
    assert operators(fused)["Gemm"] == operators(content)["Gemm"]
    assert operators(fused)[PRODUCT] == len(parts) - len(kept)
    check_equal((content, fused, slice_gathers(fused)), feeds_of(700))


class TestRefused:
    """A product stays as it is where it is not exactly what the rewrite takes it for."""

    @pytest.fixture
    def model(self, quantised):
        return copy.deepcopy(quantised)

    @pytest.fixture
    def parts(self, model):
        """Role → node, of the first block's product."""
        makers = {name: node for node in model.graph.node for name in node.output}
        product = next(node for node in model.graph.node if node.op_type == "MatMul")
        back, weight = makers[product.input[0]], makers[product.input[1]]
        there = makers[back.input[0]]
        gather = makers[makers[there.input[0]].input[0]]
        before = makers[gather.input[0]]
        (bias,) = (node for node in model.graph.node if product.output[0] in node.input)
        (split,) = (node for node in model.graph.node if bias.output[0] in node.input)
        return {
            **{"product": product, "back": back, "weight": weight, "there": there},
            **{"gather": gather, "before": before, "bias": bias, "split": split},
        }

    def constant(self, model, value):
        name = f"changed_{len(model.graph.initializer)}"
        model.graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def check(self, model, *, products, splits=0):
        """As many products are rewritten, and as many splits left, as told; all else is equal."""
        content = model.SerializeToString()
        fused = fuse_products(content)
        whole = 7 * (2 + 1) + 3 + 3 + 1
        assert operators(fused)[PRODUCT] == whole - products
        trajectories = operators(content)["Split"] - 7
        assert operators(fused)["Split"] - trajectories == splits
        check_equal((content, fused), feeds_of(300))

    def test_a_zero_point_other_than_zero(self, model, parts):
        zero = self.constant(model, np.int8(1))
        for role in ("there", "back"):
            parts[role].input[2] = zero
        self.check(model, products=2, splits=1)

    def test_unsigned_bytes(self, model, parts):
        zero = self.constant(model, np.uint8(0))
        for role in ("there", "back"):
            parts[role].input[2] = zero
        self.check(model, products=2, splits=1)

    def test_two_scales_in_one_pair(self, model, parts):
        parts["back"].input[1] = self.constant(model, np.float32(0.03))
        self.check(model, products=2, splits=1)

    def test_another_scale_before_the_gather_is_not_passed_over(self, model, parts):
        """It is rounded twice then, and gathered in FP32; whether it splits is not known."""
        other = self.constant(model, np.float32(0.5))
        (there,) = (n for n in model.graph.node if parts["before"].input[0] in n.output)
        for node in (there, parts["before"]):
            node.input[1] = other
        self.check(model, products=1, splits=1)

    def test_weights_with_a_zero_point(self, model, parts):
        zeros = np.ones(len(find(model, parts["weight"].input[2])), np.int8)
        parts["weight"].input[2] = self.constant(model, zeros)
        self.check(model, products=2, splits=1)

    def test_a_product_that_is_read_elsewhere(self, model, parts):
        model.graph.node.append(helper.make_node("Floor", [parts["product"].output[0]], ["more"]))
        self.check(model, products=2, splits=1)

    def test_a_gate_of_which_the_whole_is_read_too(self, model, parts):
        model.graph.node.append(helper.make_node("Floor", [parts["bias"].output[0]], ["more"]))
        self.check(model, products=1, splits=1)

    def test_a_result_that_the_graph_gives(self, model, parts):
        name = parts["bias"].output[0]
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        self.check(model, products=1, splits=1)

    def test_what_is_added_may_be_no_bias(self, model, parts):
        (bias,) = (n for n in parts["bias"].input if n != parts["product"].output[0])
        width = len(find(model, bias))
        for value in (np.zeros((1, width)), np.zeros(1), np.zeros((1, 1, width))):
            changed = copy.deepcopy(model)
            add = next(n for n in changed.graph.node if n.name == parts["bias"].name)
            name = self.constant(changed, value.astype(np.float32))
            add.input[list(add.input).index(bias)] = name
            fused = fuse_products(changed.SerializeToString())
            assert operators(fused)["DequantizeLinear"] > 0

    def test_weights_whose_scales_lie_on_rows(self, model, parts):
        (axis,) = parts["weight"].attribute
        axis.i = 0
        assert operators(fuse_products(model.SerializeToString()))["MatMul"] == 1

    def test_scales_that_are_too_few(self, model, parts):
        parts["weight"].input[1] = self.constant(model, np.ones(1, np.float32))
        assert operators(fuse_products(model.SerializeToString()))["MatMul"] == 1

    def test_weights_that_are_cut_off(self, model, parts):
        (weight,) = (t for t in model.graph.initializer if t.name == parts["weight"].input[0])
        weight.raw_data = weight.raw_data[:-1]
        assert operators(fuse_products(model.SerializeToString()))["MatMul"] == 1

    def test_a_row_at_the_end_that_is_not_zero_is_rounded_with_the_others(self, model, parts):
        (there,) = (n for n in model.graph.node if parts["before"].input[0] in n.output)
        (joined,) = (n for n in model.graph.node if there.input[0] in n.output)
        joined.input[1] = self.constant(model, np.full((1, 4), 0.7, np.float32))
        self.check(model, products=0)

    def test_names_that_are_taken(self, model):
        model.graph.node.append(helper.make_node("Floor", ["patches"], ["integer/x"]))
        content = model.SerializeToString()
        assert fuse_products(content) is content


@pytest.mark.parametrize("seed", range(40))
def test_a_graph_that_is_none_is_left_to_onnx_runtime_to_refuse(quantised, seed):
    """Nodes with other operators, inputs, outputs and attributes, and constants of other shapes."""
    random = np.random.default_rng(seed)
    model = copy.deepcopy(quantised)
    nodes, constants = model.graph.node, model.graph.initializer
    for _ in range(12):
        # A node that reads a later one's output would leave the graph as it is.
        earlier, later = sorted(map(int, random.integers(len(nodes), size=2)))
        node, other = nodes[later], nodes[earlier]
        change = random.integers(7)
        if change == 0:
            node.op_type = other.op_type
        elif change == 1 and other.output:
            node.input.append(other.output[0])
        elif change == 2 and node.input:
            del node.input[int(random.integers(len(node.input)))]
        elif change == 3:
            del node.output[:]
        elif change == 4:
            del node.attribute[:]
            node.attribute.extend(other.attribute)
        elif change == 5:
            node.output.append(f"more_{len(node.output)}")
        else:
            tensor = constants[int(random.integers(len(constants)))]
            tensor.dims[:] = random.permutation([*tensor.dims, 2, -1])[: random.integers(4)]
    content = model.SerializeToString()
    assert onnx.load_from_string(rewrite_for_cpu(content)).graph.input == model.graph.input


def find(model, name):
    """A constant's values."""
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    return numpy_helper.to_array(tensor)
