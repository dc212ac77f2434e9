"""The rewrite of blocks into slices of sites: fires, refuses, keeps every bit."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from m2a.graphs.operations import Network
from m2a.graphs.sliced_gathers import SLICES, find_blocks, slice_gathers
from m2a.runtime.sites import build_sites


@pytest.fixture(scope="module")
def restore(tiny_graphs):
    return tiny_graphs["restore"].SerializeToString()


def blocks_of(model):
    return list(find_blocks(Network(model.SerializeToString())))


def gathers(content):
    return sum(node.op_type == "Gather" for node in onnx.load_from_string(content).graph.node)


def run(content, mask, *, seed=0):
    sites = build_sites(mask)
    patches = np.random.default_rng(seed).random((len(sites.pixels), 75), np.float32)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    return session.run(None, {"patches": patches, **sites.tables})


def test_it_finds_every_block_of_the_restorer(restore):
    found = list(find_blocks(Network(restore)))
    assert {block.level for block in found} == {0, 1, 2, 3}
    assert [block.refusal for block in found] == [None] * len(found)


def test_it_slices_the_levels_it_is_told(restore):
    found = list(find_blocks(Network(restore)))
    more = sum(SLICES.get(block.level, 1) - 1 for block in found)
    sliced = slice_gathers(restore)
    assert gathers(sliced) == gathers(restore) + more
    onnx.checker.check_model(onnx.load_from_string(sliced), full_check=True)
    assert gathers(slice_gathers(restore, {1: 2})) == gathers(restore) + sum(
        block.level == 1 for block in found
    )


def test_a_graph_without_blocks_is_returned_itself(tiny_graphs, restore):
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


def test_nothing_but_the_operations_and_their_constants_changes(restore):
    before, after = map(onnx.load_from_string, (restore, slice_gathers(restore)))
    added = {"sliced/neighbours_0/lower", "sliced/neighbours_0/upper", "sliced/neighbours_0/slices"}
    names = {tensor.name for tensor in after.graph.initializer}
    assert added < names - {tensor.name for tensor in before.graph.initializer}
    kept = [tensor for tensor in after.graph.initializer if not tensor.name.startswith("sliced/")]
    assert kept == list(before.graph.initializer)
    for model in (before, after):
        del model.graph.node[:], model.graph.initializer[:]
    assert before == after


def test_a_block_that_is_not_row_by_row_is_refused_and_stays(tiny_graphs):
    whole = tiny_graphs["restore"]
    first = blocks_of(whole)[0]
    gather, reshape, product, bias, split, gate = (
        whole.graph.node[place] for place in first.operations[:6]
    )

    def changed(change):
        model = copy.deepcopy(whole)
        change(model, {node.name: node for node in model.graph.node})
        (refusal,) = {block.refusal for block in blocks_of(model)} - {None}
        content = model.SerializeToString()
        others = sum(SLICES.get(block.level, 1) - 1 for block in blocks_of(whole)[1:])
        assert gathers(slice_gathers(content)) == gathers(content) + others
        return refusal

    def read_twice(model, _):
        model.graph.node.append(helper.make_node("Floor", [gather.output[0]], ["more"]))

    def put_out(model, _):
        model.graph.output.append(helper.make_empty_tensor_value_info(product.output[0]))

    def other_operator(_, nodes):
        nodes[gate.name].op_type = "Add"

    def from_outside(_, nodes):
        nodes[bias.name].input[1] = "patches"

    def counted_rows(model, nodes):
        model.graph.initializer.append(numpy_helper.from_array(np.array([7, -1]), "counted"))
        nodes[reshape.name].input[1] = "counted"

    def along(node, axis):
        def change(_, nodes):
            del nodes[node.name].attribute[:]
            nodes[node.name].attribute.append(helper.make_attribute("axis", axis))

        return change

    assert changed(read_twice) == f"{gather.output[0]} has 2 readers"
    assert changed(put_out) == f"{product.output[0]} is an output of the graph"
    assert changed(other_operator) == "Add follows, expected Mul"
    assert changed(from_outside) == "Add reads patches, which is not computed in the block"
    assert changed(along(gather, -1)) == "Gather takes columns, expected rows"
    assert changed(along(split, 0)) == "Split cuts rows, expected columns"
    assert changed(counted_rows) == "Reshape counts rows, expected as many as there are"
