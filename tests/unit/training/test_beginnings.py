"""What a run begins from, and what of it stays as it was."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch
from random_network import TINY
from safetensors import safe_open
from short_training import RECIPE, assert_same_weights, folder_of

from m2a.errors import TrainingError
from m2a.models import PRESETS, M2AENet
from m2a.models.checkpoint import HEADER, MASK_SETTINGS, load_checkpoint, open_checkpoint
from m2a.training.config import PARTS, TrainingConfig
from m2a.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("tiny")


def test_a_run_begins_from_a_checkpoint_and_says_so(pool, tmp_path):
    source = Trainer(replace(RECIPE, seed=7), pool).save(folder_of(tmp_path, "source"))
    begun = Trainer(RECIPE, pool)
    begun.begin_from(load_checkpoint(source), name=source.name)
    copied = begun.save(folder_of(tmp_path, "copied"))
    assert_same_weights(load_checkpoint(copied), load_checkpoint(source))
    with safe_open(copied, framework="pt") as file:
        history = json.loads(file.metadata()[HEADER])["training"]
    assert [sorted(entry) for entry in history] == [
        ["checkpoint"],
        ["from_step", "recipe", "to_step"],
    ]


def test_threshold_and_dilation_stay_with_a_mask_predictor_that_is_not_trained(pool, tmp_path):
    said = {"threshold": 0.2, "dilate": 8}
    for parts, kept in ((("restorer",), said), (PARTS, {})):
        recipe = replace(RECIPE, parts=parts)
        run = folder_of(tmp_path, "-".join(parts))
        trainer = Trainer(recipe, pool)
        trainer.begin_from(M2AENet(TINY), name="a.safetensors", header={**said, "training": [7]})
        trainer.save(run)
        resumed = Trainer(recipe, pool)
        resumed.resume(run)
        header = open_checkpoint(resumed.save(run)).header
        assert {name: header[name] for name in MASK_SETTINGS if name in header} == kept
        assert header["training"][0] == {"checkpoint": "a.safetensors", "training": [7]}


def test_what_begins_anew_keeps_its_random_weights(pool, tmp_path):
    source = M2AENet(TINY)
    trainer = Trainer(replace(RECIPE, begin_anew=("restorer.motion.coefficients",)), pool)
    random = {name: t.clone() for name, t in trainer.average.state_dict().items()}
    trainer.begin_from(source, name="source.safetensors")
    begun = load_checkpoint(trainer.save(tmp_path)).state_dict()
    for name, tensor in source.state_dict().items():
        expected = random[name] if name.startswith("restorer.motion.coefficients.") else tensor
        assert torch.equal(begun[name], expected), name


def test_a_module_that_does_not_exist_cannot_begin_anew(pool):
    trainer = Trainer(replace(RECIPE, begin_anew=("restorer.moton",)), pool)
    with pytest.raises(TrainingError, match=r"no module 'restorer\.moton'"):
        trainer.begin_from(M2AENet(TINY), name="source.safetensors")


@pytest.mark.parametrize("optimizer", ["adamw", "soap"])
def test_what_is_frozen_stays_as_the_run_began(pool, tmp_path, optimizer):
    """Weight decay would move it, were it in the optimiser at a gradient of zero."""
    frozen = "restorer.motion.coefficients"
    recipe = replace(RECIPE, optimizer=optimizer, frozen=(frozen,), weight_decay=0.1)
    source = M2AENet(TINY)
    trainer = Trainer(recipe, pool)
    trainer.begin_from(source, name="source.safetensors")
    for _ in trainer.steps(tmp_path):
        pass
    trained = load_checkpoint(trainer.save(tmp_path)).state_dict()
    for name, parameter in source.named_parameters():
        assert torch.equal(trained[name], parameter) == name.startswith(f"{frozen}."), name


def test_what_is_frozen_takes_no_share_of_the_clipped_gradient(pool):
    """The norm is that of the other parameters, before and after clipping."""
    norms = []
    for frozen in ((), ("restorer.stem",)):
        trainer = Trainer(replace(RECIPE, parts=("restorer",), frozen=frozen, clip_norm=1e-3), pool)
        norms.append(trainer._train_step()[-1].item())
        restorer = trainer._network.restorer
        gradients = [p.grad for p in restorer.parameters() if p.grad is not None]
        total = torch.cat([g.flatten() for g in gradients]).norm().item()
        assert total == pytest.approx(1e-3, rel=1e-3)
    assert restorer.stem.weight.grad is None
    assert norms[1] < norms[0]


def test_a_module_that_does_not_exist_cannot_be_frozen(pool):
    with pytest.raises(TrainingError, match=r"frozen: .*no module 'restorer\.moton'"):
        Trainer(replace(RECIPE, frozen=("restorer.moton",)), pool)


def test_a_part_that_is_trained_cannot_be_frozen_whole(pool):
    with pytest.raises(TrainingError, match="nothing of the restorer to train"):
        Trainer(replace(RECIPE, frozen=("restorer",)), pool)


def test_a_run_keeps_what_is_frozen(pool, tmp_path):
    Trainer(RECIPE, pool).save(tmp_path)
    with pytest.raises(TrainingError, match=re.escape("other values of ['frozen']")):
        Trainer(replace(RECIPE, frozen=("restorer.stem",)), pool).resume(tmp_path)


def test_a_checkpoint_of_another_network_is_refused(pool, tmp_path):
    with pytest.raises(TrainingError, match=r"other\.safetensors"):
        Trainer(RECIPE, pool).begin_from(M2AENet(PRESETS["base"]), name="other.safetensors")


def test_a_checkpoint_trains_on_whether_its_mask_was_mirrored_or_not(pool):
    source = M2AENet(replace(TINY, mask_mirrored=True))
    trainer = Trainer(RECIPE, pool)
    trainer.begin_from(source, name="mirrored.safetensors")
    assert_same_weights(trainer.average, source)
    assert not trainer.average.config.mask_mirrored


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("change", [{"mask_stem_width": 8}, {"mask_mirrored": True}])
def test_a_run_of_a_preset_that_has_changed_is_refused(pool, tmp_path, monkeypatch, change, told):
    Trainer(RECIPE, pool).save(tmp_path)
    if not told:  # as states were written before they told
        state = torch.load(tmp_path / "state.pt", weights_only=True)
        del state["configuration"]
        torch.save(state, tmp_path / "state.pt")
    monkeypatch.setattr(TrainingConfig, "network", property(lambda _: replace(TINY, **change)))
    with pytest.raises(TrainingError, match=f"the network that model = '{RECIPE.model}' names"):
        Trainer(RECIPE, pool).resume(tmp_path)
