"""The restorer is trained on what the mask predictor wrongly takes for blurred, too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from random_network import TINY
from short_training import RECIPE

from m2a.errors import TrainingError
from m2a.models.gathered import GatheredRestorer
from m2a.models.reparameterize import reparameterize
from m2a.training.batches import restoration_batch
from m2a.training.losses import reconstruction_loss
from m2a.training.records import MASKED
from m2a.training.train import train
from m2a.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("tiny")


def trainer_of(pool, *, logit=20.0, **changes):
    """Its mask predictor gives every pixel one logit."""
    recipe = replace(RECIPE, parts=("restorer",), active_pixels=10**6, **changes)
    trainer = Trainer(recipe, pool)
    head = trainer._network.mask_predictor.head[0]
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.constant_(head.bias, logit)
    return trainer


def test_some_of_the_crops_have_them_and_the_others_their_true_mask(pool):
    rng = np.random.default_rng(0)
    crops = pool.draw(rng, 8)
    found = trainer_of(pool, false_alarms=0.5)._gradients._false_alarms(rng, crops)
    whole, none = (found == value for value in (True, False))
    chosen = whole.flatten(1).all(dim=1)
    assert torch.equal(chosen, ~none.flatten(1).all(dim=1))
    assert 0 < chosen.sum() < 8


def test_a_batch_may_have_none_by_chance(pool):
    rng = np.random.default_rng(0)
    crops = pool.draw(rng, 2)
    found = trainer_of(pool, false_alarms=1e-9)._gradients._false_alarms(rng, crops)
    assert found.shape == crops.label.shape
    assert not found.any()


def test_the_threshold_is_drawn_for_every_crop(pool):
    rng = np.random.default_rng(0)
    crops = pool.draw(rng, 32)
    trainer = trainer_of(pool, false_alarms=1.0, logit=-1.0)  # a probability of 0.27
    shares = trainer._gradients._false_alarms(rng, crops).float().mean(dim=(1, 2))
    assert set(shares.tolist()) == {0.0, 1.0}


def test_only_blurred_pixels_count_where_the_others_weigh_nothing(pool):
    """The loss is that of the moving pixels alone, though the restorer runs on all."""
    trainer = trainer_of(pool, false_alarms=1.0, false_alarm_weight=0.0)
    crops = pool.draw(np.random.default_rng(0), 3)
    crops.label[1] = 0  # a sharp crop stays out
    loss, *_ = trainer._gradients._restoration_backward(crops, np.random.default_rng(0))
    whole = torch.ones(crops.label.shape, dtype=torch.bool)
    whole[1] = False
    batch = restoration_batch(crops, whole)
    gathered = GatheredRestorer(TINY)
    gathered.load_state_dict(reparameterize(trainer._network.restorer))
    restored = batch.blurred + gathered(batch.tables).residual
    moves = crops.label[batch.sites.unbind(dim=1)] & MASKED > 0
    of_crop = batch.crop[moves]
    by_hand = reconstruction_loss(restored[moves], batch.sharp[moves], of_crop)
    assert loss.item() == pytest.approx(by_hand.item(), abs=1e-5)


def test_their_weight_counts(pool):
    gradients = []
    for weight in (0.0, 1.0):
        trainer = trainer_of(pool, false_alarms=1.0, false_alarm_weight=weight)
        trainer._train_step()
        gradients.append(trainer._network.restorer.head.weight.grad)
    assert not torch.allclose(*gradients, rtol=1e-3)


def test_the_mask_predictor_stays_as_it_is(pool):
    trainer = trainer_of(pool, false_alarms=1.0)
    before = {n: t.clone() for n, t in trainer._network.mask_predictor.state_dict().items()}
    trainer._train_step()
    for name, tensor in trainer._network.mask_predictor.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_false_alarms_of_a_random_mask_predictor_are_refused(tmp_path):
    recipe = replace(RECIPE, parts=("restorer",), false_alarms=0.5)
    with pytest.raises(TrainingError, match="begin from a checkpoint, with --init"):
        train(recipe, photographs=tmp_path, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()
