"""The branch-fused dense restorer against the definition."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from masks import KINDS, draw_mask
from random_network import PRESETS_AND_TINY, random_network

from m2a.models.dense import DenseRestorer
from m2a.models.restorer import Block
from m2a.runtime.graph_inputs import to_planes
from m2a.runtime.sites import has_active, pad_image, pad_mask

EXACT = 2e-5
"""Float32 rounding of values around 1 in another order; motion is bounded by 48 pixels."""


def picture(height, width, *, seed):
    return np.random.default_rng(seed).random((height, width, 3), dtype=np.float32)


def inputs_of(image, mask):
    """Of the dense graph, as the runtime makes them."""
    return {"image": to_planes(pad_image(image)), "mask": pad_mask(mask)[None, None].astype("f4")}


def expected_of(network, image, mask):
    """Masked dense: residual at active pixels, motion at active sites, and where those are."""
    with torch.no_grad():
        found = network.restore(
            torch.from_numpy(to_planes(image)), torch.from_numpy(mask)[None, None].float()
        )
    sites = has_active(pad_mask(mask))
    residual = found.residual[0].permute(1, 2, 0).numpy()[mask]
    return residual, found.motion[0].permute(1, 2, 0).numpy()[sites], sites


def compare(outputs, network, image, mask):
    residual, motion, sites = expected_of(network, image, mask)
    height, width = mask.shape
    found = outputs[0][0].transpose(1, 2, 0)[:height, :width][mask]
    assert residual.std() > 0.1
    assert np.abs(found - residual).max() < EXACT
    assert np.abs(outputs[1][0].transpose(1, 2, 0)[sites] - motion).max() < 48 * EXACT


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["tiny", "small"])
def test_it_computes_what_masked_dense_does_at_active_sites(name, kind):
    network = random_network(PRESETS_AND_TINY[name], seed=1)
    image, mask = picture(61, 90, seed=0), draw_mask(kind, 61, 90, 3)
    module = DenseRestorer(network.restorer)
    with torch.no_grad():
        found = module(*(torch.from_numpy(v) for v in inputs_of(image, mask).values()))
    compare([value.numpy() for value in found], network, image, mask)


def test_the_exported_graph_computes_the_same_at_any_size(tiny_network, tiny_bundle):
    session = onnxruntime.InferenceSession(
        tiny_bundle / "fp32/dense.onnx", providers=["CPUExecutionProvider"]
    )
    for height, width, kind in ((32, 64, "full"), (90, 31, "border"), (33, 40, "random")):
        image, mask = picture(height, width, seed=2), draw_mask(kind, height, width, 3)
        compare(session.run(None, inputs_of(image, mask)), tiny_network, image, mask)


def test_it_is_made_from_blocks_alone(tiny_network):
    from copy import deepcopy

    restorer = deepcopy(tiny_network.restorer)
    restorer.encoder[0][0] = torch.nn.Identity()
    with pytest.raises(TypeError, match="expected a Block, found Identity"):
        DenseRestorer(restorer)
    assert isinstance(tiny_network.restorer.encoder[0][0], Block)
