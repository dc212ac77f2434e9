"""The branch-fused dense restorer against the definition under a full mask."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from random_network import PRESETS_AND_TINY, random_network

from m2a.export.trace import trace_dense
from m2a.models.dense import DenseRestorer
from m2a.models.restorer import Block

EXACT = 2e-5
"""Float32 rounding of values around 1 in another order; motion is bounded by 48 pixels."""


@pytest.mark.parametrize("name", ["tiny", "small"])
def test_it_computes_what_masked_dense_does_under_a_full_mask(name):
    network = random_network(PRESETS_AND_TINY[name], seed=1)
    image = torch.rand((1, 3, 64, 96), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network.restore(image, torch.ones(1, 1, 64, 96))
        residual, motion = DenseRestorer(network.restorer)(image)
    assert expected.residual.std() > 0.1
    assert (residual - expected.residual).abs().max() < EXACT
    assert (motion - expected.motion).abs().max() < 48 * EXACT


def test_the_exported_graph_computes_the_same_at_any_size(tiny_network):
    model = trace_dense(tiny_network)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for height, width in ((32, 64), (96, 32)):
        image = torch.rand((1, 3, height, width), generator=torch.Generator().manual_seed(2))
        residual, motion = session.run(None, {"image": image.numpy()})
        with torch.no_grad():
            expected = tiny_network.restore(image, torch.ones(1, 1, height, width))
        assert np.abs(residual - expected.residual.numpy()).max() < EXACT
        assert np.abs(motion - expected.motion.numpy()).max() < 48 * EXACT


def test_it_is_made_from_blocks_alone(tiny_network):
    from copy import deepcopy

    restorer = deepcopy(tiny_network.restorer)
    restorer.encoder[0][0] = torch.nn.Identity()
    with pytest.raises(TypeError, match="expected a Block, found Identity"):
        DenseRestorer(restorer)
    assert isinstance(tiny_network.restorer.encoder[0][0], Block)
