"""The rewrite of gathers into slices of sites: fires, refuses, keeps every bit."""

from __future__ import annotations

import copy
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from m2a.graphs.bias_gemm import fuse_biases
from m2a.graphs.operations import Network
from m2a.graphs.row_regions import MOST_REGIONS, find_regions
from m2a.graphs.sliced_gathers import slice_gathers
from m2a.runtime.sites import build_sites


@pytest.fixture(scope="module")
def restore(tiny_graphs):
    return tiny_graphs["restore"].SerializeToString()


def regions_of(model):
    return find_regions(Network(model.SerializeToString()))


def gathers(content):
    return sum(node.op_type == "Gather" for node in onnx.load_from_string(content).graph.node)


def run(content, mask, *, seed=0):
    sites = build_sites(mask)
    patches = np.random.default_rng(seed).random((len(sites.pixels), 75), np.float32)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    return session.run(None, {"patches": patches, **sites.tables})


def test_it_finds_all_that_is_gathered_and_multiplied(tiny_graphs):
    """A block on each way at levels 0 to 2, one at level 3, three steps down, the trajectories."""
    found = Counter((region.sites, region.refusal) for region in regions_of(tiny_graphs["restore"]))
    assert found == {
        **{(f"neighbours_{level}", None): 2 for level in (0, 1, 2)},
        ("neighbours_3", None): 1,
        **{(f"children_{level}", None): 1 for level in (0, 1, 2)},
        ("site_xy", None): 1,
    }


def test_it_slices_the_levels_it_is_told(tiny_graphs, restore):
    def added(slices):
        return gathers(slice_gathers(restore, slices)) - gathers(restore)

    assert added({0: 5}) == 2 * 4  # its blocks
    assert added({1: 2}) == 2 + 1  # and the step down to it
    assert added({2: 3}) == (2 + 1 + 4) * 2  # and the four corners
    assert added({3: 2}) == 2
    assert added({0: 5, 1: 2}) == added({0: 5}) + added({1: 2})
    checked = onnx.load_from_string(slice_gathers(restore))
    onnx.checker.check_model(checked, full_check=True)


def test_a_graph_without_regions_is_returned_itself(tiny_graphs, restore):
    mask = tiny_graphs["mask"].SerializeToString()
    assert slice_gathers(mask) is mask
    assert slice_gathers(restore, {}) is restore


@pytest.mark.parametrize("active", [1, 2, 25, 1000, 64 * 96])
def test_every_bit_is_kept_with_fewer_sites_than_slices_and_with_more(restore, active):
    mask = np.zeros(64 * 96, bool)
    mask[np.random.default_rng(active).permutation(mask.size)[:active]] = True
    expected = run(restore, mask.reshape(64, 96))
    found = run(slice_gathers(restore), mask.reshape(64, 96))
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)
        assert np.abs(one).max() > 0


def test_products_fused_with_their_biases_are_sliced_too(tiny_graphs):
    """As an INT8 graph has them where something stays in FP32."""
    model = copy.deepcopy(tiny_graphs["restore"])
    assert fuse_biases(model) > 0
    fused = model.SerializeToString()
    assert {region.refusal for region in regions_of(model)} == {None}
    sliced = slice_gathers(fused)
    assert gathers(sliced) == gathers(slice_gathers(tiny_graphs["restore"].SerializeToString()))
    mask = np.ones((64, 96), bool)
    for one, other in zip(run(fused, mask), run(sliced, mask), strict=True):
        np.testing.assert_array_equal(one, other)


def test_nothing_but_the_operations_and_their_constants_changes(restore):
    before, after = map(onnx.load_from_string, (restore, slice_gathers(restore)))
    names = {tensor.name for tensor in after.graph.initializer}
    assert {"sliced/neighbours_0/lower", "sliced/site_xy/slices"} < names
    kept = [tensor for tensor in after.graph.initializer if not tensor.name.startswith("sliced/")]
    assert kept == list(before.graph.initializer)
    for model in (before, after):
        del model.graph.node[:], model.graph.initializer[:]
    assert before == after


class TestRefused:
    """A region is left as it is where it is not what the rewrite takes it for."""

    @pytest.fixture
    def model(self, tiny_graphs):
        return copy.deepcopy(tiny_graphs["restore"])

    @pytest.fixture
    def block(self, model):
        """The nodes of the first block, from the gather to the projection's bias."""
        return [model.graph.node[place] for place in regions_of(model)[0].operations]

    def check_refused(self, model, refusal):
        first, *others = regions_of(model)
        assert first.refusal == refusal
        assert {region.refusal for region in others} == {None}
        content = model.SerializeToString()
        sliced = slice_gathers(content, {0: 3})
        assert gathers(sliced) == gathers(content) + 2  # the other block of level 0

    def test_what_is_gathered_is_read_elsewhere(self, model, block):
        gathered, last = block[0].output[0], block[-1].output[0]
        model.graph.node.append(helper.make_node("Floor", [gathered], ["more"]))
        names = ", ".join(sorted([gathered, last]))
        self.check_refused(model, f"{names} leave it, expected its last result alone")

    def test_an_inner_result_is_an_output_of_the_graph(self, model, block):
        product, last = block[2].output[0], block[-1].output[0]
        model.graph.output.append(helper.make_empty_tensor_value_info(product))
        names = ", ".join(sorted([product, last]))
        self.check_refused(model, f"{names} leave it, expected its last result alone")

    def test_columns_are_gathered(self, model, block):
        set_axis(block[0], 1)
        self.check_refused(model, f"{block[0].output[0]} gathers columns, expected rows")

    def test_an_operation_that_mixes_rows_ends_it_before_the_product(self, model, block):
        model.graph.initializer.append(numpy_helper.from_array(np.array([7, -1]), "counted"))
        block[1].input[1] = "counted"
        self.check_refused(model, f"no product follows {block[0].output[0]}")

    def test_features_may_be_no_matrix(self, model, block):
        features = block[0].input[0]
        (joined,) = (node for node in model.graph.node if features in node.output)
        set_axis(joined, 1)
        result = block[0].output[0]
        words = f"{features}, from which {result} gathers, is not known to be a matrix"
        self.check_refused(model, words)

    def test_a_weight_of_three_dimensions_is_no_product_of_rows(self, model, block):
        (product, *_) = (node for node in block if node.op_type == "MatMul")
        weight = np.zeros((2, 36, 8), np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weight, "stacked"))
        product.input[1] = "stacked"
        self.check_refused(model, f"no product follows {block[0].output[0]}")

    @pytest.mark.parametrize("axis", [0, -1])
    def test_a_split_of_other_than_columns_ends_it(self, model, block, axis):
        (split,) = (node for node in block if node.op_type == "Split")
        set_axis(split, axis)
        first = regions_of(model)[0]
        # The bias is its last operation then.
        operators = [model.graph.node[place].op_type for place in first.operations]
        assert operators == ["Gather", "Reshape", "MatMul", "Add"]
        assert first.refusal is None

    def test_rows_that_are_flattened_in_another_way_begin_nothing(self, model, block):
        model.graph.initializer.append(numpy_helper.from_array(np.array([9, -1]), "nine"))
        (flat,) = (node for node in model.graph.node if block[0].input[1] in node.output)
        count = len(regions_of(model))
        flat.input[1] = "nine"
        assert len(regions_of(model)) == count - 2  # both blocks of level 0 read it

    def test_a_factor_that_is_no_sites_own_ends_it(self, model):
        """A column made of a weight would have a row where the sites have many."""
        whole = [region for region in regions_of(model) if region.sites == "site_xy"]
        column = whole[0].cuts[-1]
        (reshape,) = (node for node in model.graph.node if column in node.output)
        model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 1), np.float32), "one"))
        reshape.input[0] = "one"
        (found,) = (region for region in regions_of(model) if region.sites == "site_xy")
        assert column not in found.cuts
        assert found.refusal is not None

    def test_what_a_region_gathers_from_is_not_its_own(self, model):
        (region,) = (region for region in regions_of(model) if region.sites == "site_xy")
        nodes = [model.graph.node[place] for place in region.operations]
        last_gather = [node for node in nodes if node.op_type == "Gather"][-1]
        last_gather.input[0] = nodes[0].output[0]
        (found,) = (region for region in regions_of(model) if region.sites == "site_xy")
        assert found.refusal == f"{last_gather.output[0]} gathers what the region itself makes"

    def test_operations_with_other_numbers_of_inputs_end_it(self, model, block):
        del block[2].input[1:]
        self.check_refused(model, f"no product follows {block[0].output[0]}")

    def test_a_graph_with_any_number_of_gathers_stays_as_it_is(self, model, block):
        more = [
            helper.make_node("Gather", list(block[0].input), [f"more_{number}"])
            for number in range(MOST_REGIONS)
        ]
        model.graph.node.extend(more)
        assert regions_of(model) == []
        content = model.SerializeToString()
        assert slice_gathers(content) is content

    def test_a_graph_that_uses_the_names_of_slices_stays_as_it_is(self, model):
        model.graph.node.append(helper.make_node("Floor", ["patches"], ["sliced/x"]))
        content = model.SerializeToString()
        assert slice_gathers(content) is content


def set_axis(node, axis):
    (attribute,) = (attribute for attribute in node.attribute if attribute.name == "axis")
    attribute.i = axis
