"""The trainer: short runs of a tiny network."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from random_network import TINY
from short_training import RECIPE, assert_same_weights, folder_of
from skimage import data

import m2a.training.gradients
import m2a.training.train
import m2a.training.trainer
from m2a.errors import TrainingError
from m2a.models import M2AENet
from m2a.models.checkpoint import load_checkpoint
from m2a.models.gathered import GatheredRestorer
from m2a.models.reparameterize import reparameterize
from m2a.training.batches import restoration_batch, restoration_masks
from m2a.training.losses import trajectory_loss
from m2a.training.optimizer import build_optimizer
from m2a.training.records import SHARD_SAMPLES
from m2a.training.train import train
from m2a.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("tiny")


def test_a_run_learns_logs_and_leaves_a_checkpoint(pool, tmp_path):
    run = folder_of(tmp_path, "run")
    config = replace(RECIPE, steps=25, checkpoint_every=25, learning_rate=5e-3)
    reports = list(Trainer(config, pool).steps(run))
    assert [report.step for report in reports] == list(range(1, 26))
    assert all(math.isfinite(report.mask_loss) for report in reports)
    assert reports[-1].mask_loss < reports[0].mask_loss
    assert reports[-1].reconstruction_loss < reports[0].reconstruction_loss
    lines = (run / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 26))
    assert load_checkpoint(run / "model.safetensors").config == TINY


def test_straight_through_the_restorers_loss_reaches_the_mask_predictor(pool):
    """One step with and without: the mask predictor's gradients differ, the masks' loss not."""
    gradients, losses = [], []
    for straight_through in (False, True):
        trainer = Trainer(replace(RECIPE, straight_through=straight_through), pool)
        losses.append(trainer._train_step()[0])
        predictor = trainer._network.mask_predictor
        gradients.append(torch.cat([p.grad.flatten() for p in predictor.parameters()]))
    assert losses[0] == losses[1]
    assert not torch.allclose(*gradients, rtol=1e-3)


def test_the_end_to_end_stage_learns(pool, tmp_path):
    config = replace(RECIPE, straight_through=True, steps=25, learning_rate=5e-3, reblur_weight=0.1)
    reports = list(Trainer(config, pool).steps(tmp_path))
    assert reports[-1].mask_loss < reports[0].mask_loss
    assert reports[-1].reconstruction_loss < reports[0].reconstruction_loss


@pytest.mark.parametrize(
    "changes", [{"reconstruction": "charbonnier"}, {"frequency_weight": 0.5}], ids=lambda c: str(*c)
)
def test_the_papers_losses_teach_too_and_are_reported_alike(pool, tmp_path, changes):
    config = replace(RECIPE, parts=("restorer",), steps=25, learning_rate=5e-3)
    plain, other = (
        [report.reconstruction_loss for report in Trainer(one, pool).steps(tmp_path)]
        for one in (config, replace(config, **changes))
    )
    assert other[0] == plain[0]  # before the first step taken: the same weights, the same measure
    assert other[1] != plain[1]
    assert other[-1] < other[0]


def test_the_reblur_loss_moves_the_motion_head(pool):
    gradients = []
    for weight in (0.0, 1.0):
        trainer = Trainer(replace(RECIPE, reblur_weight=weight, clip_norm=1e9), pool)
        trainer._train_step()
        gradients.append(trainer._network.restorer.motion.coefficients.weight.grad)
    assert not torch.allclose(*gradients, rtol=1e-3)


def test_the_trajectory_loss_teaches_the_motion_of_the_samples(pool, tmp_path):
    recipe = replace(RECIPE, parts=("restorer",), steps=40, learning_rate=1e-2)
    crops = pool.draw(np.random.default_rng(0), 4)
    masks = restoration_masks(np.random.default_rng(0), crops, budget=10_000)
    batch = restoration_batch(crops, masks)
    errors = []
    for weight in (0.0, 10.0):
        trainer = Trainer(replace(recipe, trajectory_weight=weight), pool)
        for _ in trainer.steps(tmp_path):
            pass
        gathered = GatheredRestorer(TINY)
        gathered.load_state_dict(reparameterize(trainer.average.restorer))
        errors.append(trajectory_loss(gathered(batch.tables).motion, batch.motion).item())
    assert errors[1] < errors[0] / 2


@pytest.mark.parametrize("part", ["mask_predictor", "restorer"])
def test_a_part_trains_alone_and_the_other_keeps_its_weights(pool, tmp_path, part):
    trainer = Trainer(replace(RECIPE, parts=(part,)), pool)
    before = load_checkpoint(trainer.save(tmp_path)).state_dict()
    for _ in trainer.steps(tmp_path):
        pass
    after = load_checkpoint(tmp_path / "model.safetensors").state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {part}


def test_a_part_learns_the_same_alone_as_beside_the_other(pool, tmp_path):
    models = []
    for parts in (("mask_predictor", "restorer"), ("restorer",)):
        run = folder_of(tmp_path, str(len(parts)))
        for _ in Trainer(replace(RECIPE, parts=parts), pool).steps(run):
            pass
        models.append(load_checkpoint(run / "model.safetensors"))
    assert_same_weights(models[0].restorer, models[1].restorer)


def test_bfloat16_convolutions_train_float32_weights(pool, tmp_path):
    recipe = replace(RECIPE, steps=25, parts=("mask_predictor",))
    exact = Trainer(recipe, pool)._train_step()[0]
    trainer = Trainer(replace(recipe, mask_precision="bfloat16"), pool)
    assert 0 < abs(trainer._train_step()[0] - exact) < 1e-2  # 8 bits of mantissa
    reports = list(trainer.steps(tmp_path))
    assert reports[-1].mask_loss < reports[0].mask_loss
    weights = load_checkpoint(tmp_path / "model.safetensors").mask_predictor.parameters()
    assert {weight.dtype for weight in weights} == {torch.float32}


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the GPU that is missed")
def test_a_restorer_in_bfloat16_is_refused_before_anything_is_rendered(tmp_path):
    recipe = replace(RECIPE, restorer_precision="bfloat16")
    with pytest.raises(TrainingError, match="restorer_precision bfloat16 needs an NVIDIA GPU"):
        train(recipe, photographs=tmp_path, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_seed_decides_the_weights(pool, tmp_path):
    models = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run = folder_of(tmp_path, name)
        models.append(load_checkpoint(Trainer(replace(RECIPE, seed=seed), pool).save(run)))
    assert_same_weights(*models[:2])
    assert not torch.equal(models[0].restorer.stem.weight, models[2].restorer.stem.weight)


def test_soaps_eigenbasis_is_renewed_as_often_as_the_recipe_says():
    recipe = replace(RECIPE, optimizer="soap", precondition_every=25)
    groups = build_optimizer(M2AENet(TINY), recipe).param_groups
    assert {group["precondition_frequency"] for group in groups} == {25}


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(pool, tmp_path):
    trainer = Trainer(replace(RECIPE, learning_rate=1e30, warmup=0), pool)
    before = trainer.save(tmp_path).read_bytes()
    with pytest.raises(TrainingError, match=r"not finite: .*reconstruction loss"):
        list(trainer.steps(tmp_path))
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_a_step_without_anything_to_restore_is_a_step(pool, tmp_path, monkeypatch):
    monkeypatch.setattr(m2a.training.gradients, "restoration_batch", lambda *_: None)
    recipe = replace(RECIPE, parts=("restorer",))
    assert [report.reconstruction_loss for report in Trainer(recipe, pool).steps(tmp_path)] == [
        0
    ] * 6


def test_what_is_read_seldom_names_the_steps_since(pool, tmp_path, monkeypatch):
    """As on a GPU, which is asked where it is reported."""
    monkeypatch.setattr(m2a.training.trainer, "LOG_STEPS", 4)
    trainer = Trainer(replace(RECIPE, checkpoint_every=9, learning_rate=1e30, warmup=0), pool)
    trainer._device = SimpleNamespace(type="cuda")
    monkeypatch.setattr(Trainer, "_no_totals", lambda self: torch.zeros(8, dtype=torch.float64))
    monkeypatch.setattr(Trainer, "_train_step", lambda self: torch.full((8,), torch.nan))
    with pytest.raises(TrainingError, match="steps 0 to 3: not finite"):
        list(trainer.steps(tmp_path))


def test_a_gradient_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(
    pool, tmp_path, monkeypatch
):
    trainer = Trainer(replace(RECIPE, reblur_weight=1.0, checkpoint_every=1), pool)
    before = trainer.save(tmp_path).read_bytes()
    monkeypatch.setattr(
        m2a.training.gradients, "reblur_loss", lambda *args: args[-1].sum() * float("nan")
    )
    with pytest.raises(TrainingError, match="not finite: gradient of the restorer"):
        list(trainer.steps(tmp_path))
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_training_from_a_folder_of_photographs(tmp_path):
    """Everything together, rendering included."""
    photographs, run = folder_of(tmp_path, "photographs"), folder_of(tmp_path, "run")
    Image.fromarray(data.astronaut()).save(photographs / "astronaut.png")
    cutouts = folder_of(tmp_path, "cutouts")
    Image.new("RGBA", (20, 20), (9, 200, 9, 99)).save(cutouts / "leaf.png")
    reports = []
    checkpoint = train(
        replace(RECIPE, steps=2),
        photographs=photographs,
        run=run,
        cutouts=cutouts,
        report=reports.append,
    )
    assert checkpoint == run / "model.safetensors"
    assert load_checkpoint(checkpoint).config == TINY
    assert reports[-1].samples == SHARD_SAMPLES
    assert (run / "samples" / "shard-00000.npy").exists()
    assert json.loads((run / "samples" / "pool.json").read_text())["cutouts"] is not None


def test_a_training_is_validated_on_photographs_that_it_does_not_see(tmp_path):
    photographs, run = folder_of(tmp_path, "photographs"), folder_of(tmp_path, "run")
    Image.fromarray(data.astronaut()).save(photographs / "astronaut.png")
    Image.fromarray(data.coffee()).save(photographs / "coffee.png")
    config = replace(
        RECIPE, steps=4, checkpoint_every=2, validation=("coffee",), validation_crops=2
    )
    validated = []
    train(
        config,
        photographs=photographs,
        run=run,
        validated=lambda step, figures: validated.append((step, figures)),
    )
    assert [step for step, _ in validated] == [2, 4]
    lines = [json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines()]
    assert lines == [{"step": step, **vars(figures)} for step, figures in validated]
    with Image.open(run / "preview.png") as preview:
        assert preview.size == (5 * 32, 2 * 32)
    assert list((run / "tensorboard").glob("events.out.tfevents.*"))
    # The pool is the one of the other photograph alone.
    alone = folder_of(tmp_path, "alone")
    Image.fromarray(data.astronaut()).save(alone / "astronaut.png")
    train(replace(RECIPE, steps=1), photographs=alone, run=folder_of(tmp_path, "other"))
    shards = [(tmp_path / r / "samples" / "shard-00000.npy").read_bytes() for r in ("run", "other")]
    assert shards[0] == shards[1]


def test_a_folder_without_photographs_is_an_error(tmp_path):
    with pytest.raises(TrainingError):
        train(RECIPE, photographs=folder_of(tmp_path, "none"), run=tmp_path / "run")
