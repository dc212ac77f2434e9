"""The INT8 variant: each rewrite fires, refuses with a reason, and equals NumPy's rounding."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from m2a.errors import ContractError, PrecisionError
from m2a.graphs import bias_gemm, int8_convolutions, int8_products
from m2a.graphs.contract import CONTRACTS, IR_VERSION, OPSET, check_contract
from m2a.graphs.int8 import quantizable, to_int8
from m2a.graphs.quantization import activation_scale, fake_quantize, quantize_weights
from m2a.runtime.backends import open_runners
from m2a.runtime.graph_inputs import extract_patches
from m2a.runtime.sites import build_sites, pad_image, pad_mask

RNG = np.random.default_rng


def model_of(nodes, inputs, outputs, constants):
    """A small graph: inputs name → shape (int32 for rows), outputs by name."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [
            helper.make_tensor_value_info(
                name, TensorProto.INT32 if name == "rows" else TensorProto.FLOAT, shape
            )
            for name, shape in inputs.items()
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in outputs.items()
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def product(seed=0, channels=8, width=6):
    """x [N, C], rows [9 · M] → (x[rows] as [M, 9 · C]) · W + b."""
    random = RNG(seed)
    constants = {
        "shape": np.array([-1, 9 * channels], np.int64),
        "W": random.normal(size=(9 * channels, width)).astype(np.float32),
        "b": random.normal(size=width).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["x", "rows"], ["gathered"], "gather", axis=0),
        helper.make_node("Reshape", ["gathered", "shape"], ["beside"], "reshape"),
        helper.make_node("MatMul", ["beside", "W"], ["product"], "matmul"),
        helper.make_node("Add", ["product", "b"], ["y"], "add"),
    ]
    return model_of(
        nodes, {"x": ["N", channels], "rows": ["R"]}, {"y": ["M", 6]}, constants
    ), constants


def residual_product(seed=0):
    """x [N, 8], skip [N, 6] → x · W + b + skip."""
    random = RNG(seed)
    constants = {
        "W": random.normal(size=(8, 6)).astype(np.float32),
        "b": random.normal(size=6).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["product"], "matmul"),
        helper.make_node("Add", ["product", "b"], ["biased"], "bias"),
        helper.make_node("Add", ["skip", "biased"], ["y"], "add"),
    ]
    inputs = {"x": ["N", 8], "skip": ["N", 6]}
    return model_of(nodes, inputs, {"y": ["N", 6]}, constants), constants


def run(model, feeds, **options):
    (runner,) = open_runners([model.SerializeToString()], backend="ort-cpu", **options)
    return runner.run(feeds)


def operators(model):
    return [node.op_type for node in model.graph.node]


class TestNumbers:
    def test_weights_are_off_by_half_a_step_of_their_own_channel_at_most(self):
        weights = RNG(0).normal(size=(40, 5)).astype(np.float32) * [1, 10, 100, 1e-3, 0]
        rounded, scales = quantize_weights(weights.astype(np.float32), axis=1)
        assert rounded.dtype == np.int8
        assert np.abs(rounded).max(axis=0).tolist() == [127, 127, 127, 127, 0]
        assert (np.abs(rounded * scales - weights) <= 0.5001 * scales).all()

    def test_a_range_that_is_not_finite_is_refused(self):
        for bound in (-1.0, np.inf, np.nan):
            with pytest.raises(ValueError, match="finite bound"):
                activation_scale(bound)

    def test_fake_quantisation_clips_and_keeps_zero(self):
        found = fake_quantize(np.array([0, 1.26, -300, 300], np.float32), 0.5)
        assert found.tolist() == [0, 1.5, -64, 63.5]


class TestProducts:
    @pytest.mark.parametrize("optimize", [True, False])
    @pytest.mark.parametrize("seed", range(3))
    def test_it_equals_numpys_rounding(self, seed, optimize):
        model, constants = product(seed)
        random = RNG(seed + 10)
        x = random.normal(size=(50, 8)).astype(np.float32)
        rows = random.integers(0, 50, 9 * 30).astype(np.int32)
        bound = 2.0  # some are clipped
        assert int8_products.quantize_products(model, {"x": bound}) == 1
        onnx.checker.check_model(model, full_check=True)
        stored, scales = quantize_weights(constants["W"], axis=1, largest=64)
        rounded = fake_quantize(x, bound / 127)[rows].reshape(30, -1)
        expected = rounded @ (stored * scales) + constants["b"]
        found = run(model, {"x": x, "rows": rows}, optimize=optimize)["y"]
        np.testing.assert_allclose(found, expected, atol=2e-5)  # FP32 sums of 72 terms

    def test_the_largest_values_do_not_saturate(self):
        """Every sum of two products is as large as it gets: 2 · 127 · 64, of a shifted byte 255."""
        model, _ = product()
        weight = next(tensor for tensor in model.graph.initializer if tensor.name == "W")
        weight.CopyFrom(numpy_helper.from_array(np.ones((72, 6), np.float32), "W"))
        int8_products.quantize_products(model, {"x": 1.0})
        x = np.ones((4, 8), np.float32)
        rows = np.zeros(9 * 300, np.int32)
        bias = next(t for t in model.graph.initializer if t.name == "b")
        found = run(model, {"x": x, "rows": rows})["y"] - numpy_helper.to_array(bias)
        np.testing.assert_allclose(found, 72, atol=1e-4)

    def test_both_pairs_have_one_scale_and_the_bias_stays_apart(self):
        model, _ = product()
        int8_products.quantize_products(model, {"x": 3.0})
        assert operators(model) == [
            *("QuantizeLinear", "DequantizeLinear", "Gather", "Reshape"),
            *("QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "MatMul", "Add"),
        ]
        pairs = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
        assert pairs[0].input[1:] == pairs[1].input[1:]
        zero = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        assert zero[pairs[0].input[2]] == 0
        assert zero[pairs[0].input[2]].dtype == np.int8

    def test_it_gathers_and_multiplies_in_int8(self, tmp_path):
        import onnxruntime

        model, _ = product()
        int8_products.quantize_products(model, {"x": 3.0})
        settings = onnxruntime.SessionOptions()
        settings.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        onnxruntime.InferenceSession(
            model.SerializeToString(),
            settings,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["MatMulAddFusion"],
        )
        optimised = onnx.load(tmp_path / "optimised.onnx")
        assert operators(optimised) == [
            *("QuantizeLinear", "Gather", "Reshape", "MatMulIntegerToFloat", "Add")
        ]

    @pytest.mark.parametrize("optimize", [True, False])
    def test_a_product_that_is_added_to_features_equals_numpys_rounding(self, optimize):
        model, constants = residual_product()
        random = RNG(5)
        feeds = {
            "x": random.normal(size=(7, 8)).astype(np.float32),
            "skip": random.normal(size=(7, 6)).astype(np.float32),
        }
        assert int8_products.quantize_products(model, {"x": 2.0}) == 1
        onnx.checker.check_model(model, full_check=True)
        stored, scales = quantize_weights(constants["W"], axis=1, largest=64)
        rounded = fake_quantize(feeds["x"], 2.0 / 127)
        expected = rounded @ (stored * scales) + constants["b"] + feeds["skip"]
        found = run(model, feeds, optimize=optimize)["y"]
        np.testing.assert_allclose(found, expected, atol=1e-5)

    @pytest.mark.parametrize(
        "change",
        [
            lambda g: setattr(g.node[2], "op_type", "Mul"),
            lambda g: g.node[2].input.__setitem__(0, "b"),
            lambda g: g.node.append(helper.make_node("Tanh", ["biased"], ["z"], "tanh")),
            lambda g: g.output.append(helper.make_empty_tensor_value_info("biased")),
        ],
    )
    def test_a_product_that_goes_elsewhere_stays(self, change):
        model, _ = residual_product()
        change(model.graph)
        assert int8_products.products(model.graph) == {}
        assert "not added to features" in int8_products.refusal(model.graph, model.graph.node[0])

    def test_what_is_named_stays(self):
        model, _ = product()
        before = model.SerializeToString()
        assert int8_products.quantize_products(model, {}, keep=["W"]) == 0
        assert model.SerializeToString() == before

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda g: setattr(g.node[2], "op_type", "Gemm"), "is a Gemm, not a MatMul"),
            (lambda g: g.node[2].input.__setitem__(1, "beside"), "is no constant"),
            (lambda g: g.node[0].__setattr__("op_type", "GatherElements"), "gathered rows"),
            (lambda g: g.node[3].input.__setitem__(1, "W"), "has other readers"),
            (lambda g: g.node[3].input.__setitem__(1, "gathered"), "rows of matmul have other"),
        ],
    )
    def test_it_refuses_with_a_reason(self, change, reason):
        model, _ = product()
        change(model.graph)
        assert reason in int8_products.refusal(model.graph, model.graph.node[2])
        assert int8_products.products(model.graph) == {}


class TestConvolutions:
    def convolution(self):
        random = RNG(1)
        constants = {
            "W": random.normal(size=(4, 3, 3, 3)).astype(np.float32),
            "b": random.normal(size=4).astype(np.float32),
        }
        node = helper.make_node("Conv", ["x", "W", "b"], ["y"], "conv", pads=[1, 1, 1, 1])
        return model_of(
            [node], {"x": [1, 3, "H", "W"]}, {"y": [1, 4, "H", "W"]}, constants
        ), constants

    def test_it_equals_numpys_rounding(self):
        model, constants = self.convolution()
        plain = copy.deepcopy(model)
        x = RNG(2).normal(size=(1, 3, 12, 10)).astype(np.float32)
        assert int8_convolutions.quantize_convolutions(model, {"x": 2.0}) == 1
        onnx.checker.check_model(model, full_check=True)
        stored, scales = quantize_weights(constants["W"], axis=0)
        weight = next(tensor for tensor in plain.graph.initializer if tensor.name == "W")
        values = stored * scales.reshape(-1, 1, 1, 1)
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float32), "W"))
        expected = run(plain, {"x": fake_quantize(x, 2.0 / 127)})["y"]
        np.testing.assert_allclose(run(model, {"x": x})["y"], expected, atol=1e-5)

    def test_it_refuses_with_a_reason(self):
        model, _ = self.convolution()
        model.graph.node.append(helper.make_node("Relu", ["W"], ["z"], "relu"))
        (conv, relu) = model.graph.node
        assert "has other readers" in int8_convolutions.refusal(model.graph, conv)
        assert "relu is a Relu, not a Conv" in int8_convolutions.refusal(model.graph, relu)
        conv.input[1] = "x"
        assert "is no constant" in int8_convolutions.refusal(model.graph, conv)


class TestBiases:
    def test_a_product_and_its_bias_become_one_node_with_equal_results(self):
        model, _ = product()
        plain = copy.deepcopy(model)
        assert bias_gemm.fuse_biases(model) == 1
        onnx.checker.check_model(model, full_check=True)
        assert operators(model) == ["Gather", "Reshape", "Gemm"]
        feeds = {"x": RNG(0).normal(size=(5, 8)).astype(np.float32), "rows": np.zeros(18, np.int32)}
        found, expected = (run(each, feeds)["y"] for each in (model, plain))
        np.testing.assert_allclose(found, expected, atol=1e-5)

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda g: setattr(g.node[2], "op_type", "Gemm"), "is a Gemm, not a MatMul"),
            (lambda g: g.node[2].input.__setitem__(1, "beside"), "no constant matrix"),
            (lambda g: setattr(g.node[3], "op_type", "Mul"), "not read by one Add alone"),
            (lambda g: g.node[3].input.__setitem__(1, "W"), "no constant of 6 values"),
            (lambda g: g.output.append(helper.make_empty_tensor_value_info("product")), "output"),
        ],
    )
    def test_it_refuses_with_a_reason(self, change, reason):
        model, _ = product()
        change(model.graph)
        assert reason in bias_gemm.refusal(model.graph, model.graph.node[2])
        assert bias_gemm.fuse_biases(model) == 0

    def test_quantised_products_are_left_alone(self):
        model, _ = product()
        int8_products.quantize_products(model, {"x": 1.0})
        assert bias_gemm.fuse_biases(model) == 0


@pytest.fixture(scope="module")
def variants(tiny_graphs):
    return {
        name: to_int8(model, dict.fromkeys(quantizable(model).values(), 6.0))
        for name, model in tiny_graphs.items()
    }


class TestVariant:
    @pytest.mark.parametrize("name", CONTRACTS)
    def test_the_ports_and_operators_keep_the_contract(self, variants, name):
        check_contract(variants[name], name, precision="int8")
        with pytest.raises(ContractError, match=r"\['DequantizeLinear', 'QuantizeLinear'\]"):
            check_contract(variants[name], name)

    @pytest.mark.parametrize("name", CONTRACTS)
    def test_the_original_is_not_changed(self, tiny_graphs, name):
        before = tiny_graphs[name].SerializeToString()
        to_int8(tiny_graphs[name], dict.fromkeys(quantizable(tiny_graphs[name]).values(), 6.0))
        assert tiny_graphs[name].SerializeToString() == before

    def test_all_convolutions_and_all_products_but_three_are_in_int8(self, tiny_graphs, variants):
        """Of the tiny restorer: 7 blocks of two, 3 steps down, 3 up, the mix of trajectories."""
        mask, restore = (operators(variants[name]) for name in ("mask", "restore"))
        # A weight each, and a pair for each tensor that convolutions read.
        assert mask.count("DequantizeLinear") == mask.count("QuantizeLinear") + mask.count("Conv")
        assert restore.count("MatMul") == 7 * 2 + 3 + 3 + 1
        assert restore.count("QuantizeLinear") == 10 * 2 + 11
        assert restore.count("DequantizeLinear") == 10 * 3 + 11 * 2
        graph = tiny_graphs["restore"].graph
        single = {node.input[1] for node in graph.node if node.op_type == "MatMul"}
        assert single - set(int8_products.products(graph)) == {
            f"restorer.{name}.weight" for name in ("stem", "motion.coefficients", "head")
        }

    def test_ranges_that_are_missing_are_named(self, tiny_graphs):
        model = tiny_graphs["restore"]
        ranges = dict.fromkeys(quantizable(model).values(), 6.0)
        gone = sorted(ranges)[:2]
        ranges.pop(gone[0])
        ranges[gone[1]] = float("nan")
        with pytest.raises(PrecisionError, match=f"{gone[0]}, {gone[1]}"):
            to_int8(model, ranges)
        kept = [name for name, tensor in quantizable(model).items() if tensor in gone]
        to_int8(model, ranges, keep=kept)

    def test_it_computes_what_it_computes_unoptimised(self, variants):
        """A value at a step's edge may fall on either side: a step where all else is equal."""
        random = RNG(0)
        image = random.random((64, 64, 3), dtype=np.float32)
        sites = build_sites(pad_mask(random.random((64, 64)) < 0.4))
        feeds = {"patches": extract_patches(pad_image(image), sites.pixels), **sites.tables}
        fast, slow = (
            run(variants["restore"], feeds, optimize=optimize) for optimize in (True, False)
        )
        for name, values in slow.items():
            error = np.sqrt(np.square(fast[name] - values).mean())
            assert error < 0.01 * values.std(), name
