"""The mask predictor: folding, size, cost."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from random_network import PRESETS_AND_TINY, TINY, noise_image, random_network, tables, to_tensor
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from m2a.models import PRESETS
from m2a.models.cost import count_cost
from m2a.models.gathered import GatheredRestorer
from m2a.models.mask_predictor import fold_batch_norm
from m2a.models.reparameterize import reparameterize


@pytest.mark.parametrize("name", PRESETS_AND_TINY)
@torch.no_grad()
def test_folding_the_batch_norms_changes_nothing(name):
    predictor = random_network(PRESETS_AND_TINY[name], seed=4).mask_predictor
    folded = copy.deepcopy(predictor)
    fold_batch_norm(folded)
    image = to_tensor(noise_image(64, 96))
    before, after = predictor(image), folded(image)
    assert before.std() > 0.05
    # Float32: the same products, scaled before instead of after the sum.
    assert (before - after).abs().max() <= 1e-5


def test_folding_leaves_no_batch_norm():
    predictor = random_network(TINY, seed=4).mask_predictor
    fold_batch_norm(predictor)
    assert not [m for m in predictor.modules() if isinstance(m, nn.BatchNorm2d)]


@torch.no_grad()
def test_folding_twice_is_folding_once():
    predictor = random_network(TINY, seed=4).mask_predictor
    fold_batch_norm(predictor)
    image = to_tensor(noise_image(32, 32))
    once = predictor(image)
    fold_batch_norm(predictor)
    assert torch.equal(once, predictor(image))


def test_a_norm_without_statistics_is_refused():
    predictor = random_network(TINY, seed=4).mask_predictor
    predictor.stem[0].norm = nn.BatchNorm2d(4, track_running_stats=False)
    with pytest.raises(ValueError, match="running statistics"):
        fold_batch_norm(predictor)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96), (160, 32)])
@torch.no_grad()
def test_there_is_one_logit_per_pixel(tiny_network, height, width):
    logits = tiny_network.mask_predictor(torch.rand((2, 3, height, width)))
    assert logits.shape == (2, 1, height, width)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (31, 70), (64, 33)])
@torch.no_grad()
def test_the_network_predicts_on_images_of_any_size(tiny_network, height, width):
    logits = tiny_network.predict_mask(to_tensor(noise_image(height, width)))
    assert logits.shape == (1, 1, height, width)


@torch.no_grad()
def test_a_logit_depends_on_a_bounded_neighbourhood(tiny_network):
    """No global operation: far pixels do not matter, so an image may be processed in parts."""
    image = to_tensor(noise_image(64, 640))
    changed = image.clone()
    changed[..., 512:] = 1 - changed[..., 512:]
    before, after = (tiny_network.mask_predictor(i) for i in (image, changed))
    assert torch.equal(before[..., :128], after[..., :128])
    assert not torch.equal(before[..., 512:], after[..., 512:])


@pytest.mark.parametrize(("name", "most"), [("small", 4_000), ("base", 40_000)])
def test_the_predictor_is_cheaper_than_the_restoration_at_10_percent(name, most):
    """The only dense part: it is paid for on every pixel. `most`, FLOP, is what was agreed on."""
    cost = count_cost(PRESETS[name])
    assert cost.mask <= most
    assert cost.mask <= 0.1 * cost.restore


@pytest.mark.parametrize("name", PRESETS_AND_TINY)
@torch.no_grad()
def test_the_counted_cost_of_the_predictor_is_torchs(name):
    network = random_network(PRESETS_AND_TINY[name], seed=0)
    with FlopCounterMode(display=False) as counter:
        network.predict_mask(torch.rand((1, 3, 64, 96)))
    assert counter.get_total_flops() / (64 * 96) == pytest.approx(
        count_cost(PRESETS_AND_TINY[name]).mask, rel=1e-9
    )


@pytest.mark.parametrize("name", PRESETS_AND_TINY)
@torch.no_grad()
def test_the_counted_cost_of_the_restorer_is_torchs_under_a_full_mask(name):
    network = random_network(PRESETS_AND_TINY[name], seed=0)
    gathered = GatheredRestorer(PRESETS_AND_TINY[name])
    gathered.load_state_dict(reparameterize(network.restorer))
    inputs = tables(noise_image(32, 64), np.ones((32, 64), bool))
    with FlopCounterMode(display=False) as counter:
        gathered(inputs)
    assert counter.get_total_flops() / (32 * 64) == pytest.approx(
        count_cost(PRESETS_AND_TINY[name]).restore, rel=1e-9
    )
