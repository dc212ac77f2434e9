"""Trainings that were stopped: they go on as if they had not been, or say why they cannot."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch
from PIL import Image
from pools import darkened_pool
from safetensors import safe_open
from short_training import RECIPE, assert_same_weights, folder_of
from skimage import data

from m2a.errors import TrainingError
from m2a.models.checkpoint import HEADER, load_checkpoint
from m2a.training.samples import SynthesisConfig
from m2a.training.train import train
from m2a.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("tiny")


def test_a_killed_and_resumed_run_equals_an_unkilled_one_bit_for_bit(pool, tmp_path):
    unkilled, killed = folder_of(tmp_path, "unkilled"), folder_of(tmp_path, "killed")
    for _ in Trainer(RECIPE, pool).steps(unkilled):
        pass

    for progress in Trainer(RECIPE, pool).steps(killed):
        if progress.step == 5:  # beyond the checkpoint of step 3, before that of step 6
            break
    torch.manual_seed(99)
    resumed = Trainer(RECIPE, pool)
    resumed.resume(killed)
    assert [progress.step for progress in resumed.steps(killed)] == [4, 5, 6]

    models = [load_checkpoint(run / "model.safetensors") for run in (unkilled, killed)]
    assert_same_weights(*models)
    states = [torch.load(run / "state.pt", weights_only=True) for run in (unkilled, killed)]
    assert states[0]["step"] == states[1]["step"] == 6
    assert states[0]["history"] == states[1]["history"]
    for name, tensor in states[0]["network"].items():
        assert torch.equal(tensor, states[1]["network"][name]), name


def test_soap_learns_and_resumes_bit_for_bit(pool, tmp_path):
    recipe = replace(RECIPE, optimizer="soap", steps=12)
    unkilled, killed = folder_of(tmp_path, "unkilled"), folder_of(tmp_path, "killed")
    reports = list(Trainer(recipe, pool).steps(unkilled))
    assert reports[-1].mask_loss < reports[0].mask_loss
    for progress in Trainer(recipe, pool).steps(killed):
        if progress.step == 8:
            break
    resumed = Trainer(recipe, pool)
    assert resumed.resume(killed)
    assert [progress.step for progress in resumed.steps(killed)] == list(range(7, 13))
    models = [load_checkpoint(run / "model.safetensors") for run in (unkilled, killed)]
    assert_same_weights(*models)


def test_resuming_without_a_state_starts_at_the_beginning(pool, tmp_path):
    trainer = Trainer(RECIPE, pool)
    trainer.resume(tmp_path)
    assert next(trainer.steps(tmp_path)).step == 1


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"seed": 1}, ["seed"]),
        ({"samples": 128, "parts": ("restorer",)}, ["parts", "samples"]),
        ({"optimizer": "soap"}, ["optimizer"]),
        ({"precondition_every": 25}, ["precondition_every"]),
        ({"model": "base"}, ["model"]),
        ({"synthesis": SynthesisConfig(size=32, blur_length=(3.0, 9.0))}, ["synthesis"]),
        ({"held_out": ("astronaut",)}, ["held_out"]),
        ({"validation": ("coffee",)}, ["validation"]),
    ],
)
def test_another_network_or_other_samples_are_refused_by_name(pool, tmp_path, changes, names):
    Trainer(RECIPE, pool).save(tmp_path)
    with pytest.raises(TrainingError, match=re.escape(f"other values of {names}")):
        Trainer(replace(RECIPE, **changes), pool).resume(tmp_path)


def test_a_state_that_is_older_than_a_setting_of_the_samples_has_its_default(pool, tmp_path):
    Trainer(RECIPE, pool).save(tmp_path)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    history = json.loads(state["history"])
    del history[-1]["recipe"]["synthesis"]["cutout_probability"]
    torch.save(state | {"history": json.dumps(history)}, tmp_path / "state.pt")
    assert Trainer(RECIPE, pool).resume(tmp_path)


def test_a_state_from_before_a_field_was_there_goes_on(pool, tmp_path):
    Trainer(RECIPE, pool).save(tmp_path)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    history = json.loads(state["history"])
    del history[-1]["recipe"]["validation"]
    torch.save({**state, "history": json.dumps(history)}, tmp_path / "state.pt")
    assert Trainer(RECIPE, pool).resume(tmp_path)


def test_what_changes_on_the_way_stands_in_the_checkpoints_history(pool, tmp_path):
    for _ in Trainer(replace(RECIPE, steps=3), pool).steps(tmp_path):
        pass
    changed = replace(RECIPE, steps=5, batch=2, learning_rate=1e-4)
    resumed = Trainer(changed, pool)
    resumed.resume(tmp_path)
    rates = {group["peak"] for group in resumed._optimizer.param_groups}
    assert rates == {changed.learning_rate, changed.mask_learning_rate}
    for _ in resumed.steps(tmp_path):
        pass
    resumed.save(tmp_path)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        history = json.loads(file.metadata()[HEADER])["training"]
    assert [(part["from_step"], part["to_step"]) for part in history] == [(0, 3), (3, 5)]
    assert [part["recipe"]["batch"] for part in history] == [4, 2]
    assert history[1]["recipe"] == changed.to_json()


def test_a_run_may_be_made_longer(pool, tmp_path):
    for _ in Trainer(RECIPE, pool).steps(tmp_path):
        pass
    longer = Trainer(replace(RECIPE, steps=8), pool)
    longer.resume(tmp_path)
    assert [progress.step for progress in longer.steps(tmp_path)] == [7, 8]


@pytest.mark.parametrize(("checkpoint_every", "validated"), [(3, [3, 5]), (9, [5])])
def test_the_records_of_a_resumed_run_have_each_step_once(tmp_path, checkpoint_every, validated):
    """Killed beyond its checkpoint, or before it had one."""
    photographs, run = folder_of(tmp_path, "photographs"), folder_of(tmp_path, "run")
    Image.fromarray(data.coffee()).save(photographs / "coffee.png")
    darkened_pool(run / "samples")
    recipe = replace(
        RECIPE,
        steps=5,
        checkpoint_every=checkpoint_every,
        validation=("coffee",),
        validation_crops=2,
    )

    def be_killed(step, _):
        if step == 5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(recipe, photographs=photographs, run=run, render_workers=0, validated=be_killed)
    with (run / "log.jsonl").open("a") as log:
        log.write('{"step": 1, "sha')
    train(recipe, photographs=photographs, run=run, render_workers=0)
    recorded = [
        [json.loads(line)["step"] for line in (run / name).read_text().splitlines()]
        for name in ("log.jsonl", "validation.jsonl")
    ]
    assert recorded == [[1, 2, 3, 4, 5], validated]


@pytest.mark.parametrize("kind", ["text", "cut off", "foreign", "of no network", "no moments"])
def test_a_state_that_is_damaged_or_foreign_is_refused(pool, tmp_path, kind):
    Trainer(RECIPE, pool).save(tmp_path)
    path = tmp_path / "state.pt"
    state = torch.load(path, weights_only=True)
    if kind == "text":
        path.write_text("no state\n")
    elif kind == "cut off":
        path.write_bytes(path.read_bytes()[:-1000])
    elif kind == "foreign":
        torch.save({"epoch": 3, "state_dict": state["network"]}, path)
    elif kind == "of no network":
        foreign = {"configuration": None, "network": {"weight": torch.zeros(3)}}
        torch.save(state | foreign, path)
    else:
        torch.save(state | {"optimizer": {"state": {}, "param_groups": []}}, path)
    with pytest.raises(TrainingError, match="another run folder, or move") as refused:
        Trainer(RECIPE, pool).resume(tmp_path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: tried 9 bytes")],
    ids=["Python's", "torch's"],
)
def test_want_of_memory_is_not_told_as_damage(pool, tmp_path, monkeypatch, error):
    def load(*_, **__):
        raise error

    Trainer(RECIPE, pool).save(tmp_path)
    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(type(error)) as found:
        Trainer(RECIPE, pool).resume(tmp_path)
    assert found.value is error


def test_a_damaged_state_is_refused_before_samples_are_waited_for(tmp_path):
    run = folder_of(tmp_path, "run")
    (run / "state.pt").write_text("no state\n")
    Image.fromarray(data.coffee()).save(tmp_path / "coffee.png")
    with pytest.raises(TrainingError, match=r"state\.pt"):
        train(RECIPE, photographs=tmp_path, run=run, render_workers=0)
