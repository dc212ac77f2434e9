"""The operations that are timed alone are those of the graph."""

from __future__ import annotations

import numpy as np
from masks import draw_mask

from m2a.benchmark.alone import Operation, operations_of, seconds_alone
from m2a.runtime.bundle import open_bundle
from m2a.runtime.sites import build_sites, pad_mask


def test_every_product_and_gather_of_the_graph_is_counted(tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    width, blocks = bundle.network.width, bundle.network.blocks
    sites = build_sites(pad_mask(draw_mask("random", 40, 50, seed=2)))
    feeds = {"patches": np.zeros((sites.counts[0], 75), np.float32), **sites.tables}
    graph = bundle.graph("restore", precision="fp32")
    found = operations_of(graph, feeds, threads=1)
    for level, count in enumerate(sites.counts):
        # The encoder's blocks, and the decoder's, which mirror them but at the coarsest level.
        both = blocks[level] * (1 if level == 3 else 2)
        channels = width * 2**level
        assert found[Operation("MatMul", count, 9 * channels, 2 * channels)] == both
        assert found[Operation("Gather", 9 * count, count + 1, channels)] == both
    assert found[Operation("MatMul", sites.counts[0], 75, width)] == 1
    assert 0 < seconds_alone(graph, feeds, threads=1) < 10
