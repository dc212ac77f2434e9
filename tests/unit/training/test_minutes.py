"""A training that ends by the clock."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import pytest
from short_training import RECIPE

from m2a.training import trainer as module
from m2a.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture(autouse=True)
def a_minute_a_step(monkeypatch):
    """The trainer's clock goes on by a minute with every step, and stands still beside."""
    now = [0.0]
    step = Trainer._train_step

    def timed(self):
        now[0] += 60
        return step(self)

    monkeypatch.setattr(Trainer, "_train_step", timed)
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now[0]))


def rates(trainer):
    return [group["lr"] / group["peak"] for group in trainer._optimizer.param_groups]


def test_it_ends_by_the_clock_with_the_rates_at_their_end(pool, tmp_path):
    trainer = Trainer(replace(RECIPE, steps=10_000, minutes=5, warmup=0), pool)
    found = [(progress.share, *set(rates(trainer))) for progress in trainer.steps(tmp_path)]
    shares, factors = zip(*found, strict=True)
    assert trainer.step == 5
    assert shares == pytest.approx((0.2, 0.4, 0.6, 0.8, 1.0))
    # Each is the cosine's where the step began.
    assert factors == pytest.approx((1.0, 0.9055, 0.6580, 0.3520, 0.1045), abs=1e-3)


def test_it_ends_by_the_steps_where_they_are_done_first(pool, tmp_path):
    trainer = Trainer(replace(RECIPE, minutes=1000), pool)
    shares = [progress.share for progress in trainer.steps(tmp_path)]
    assert trainer.step == RECIPE.steps
    assert shares[-1] == 1


def test_what_it_took_before_it_was_stopped_counts(pool, tmp_path):
    recipe = replace(RECIPE, steps=10_000, minutes=5, checkpoint_every=1)
    stopped = Trainer(recipe, pool)
    for _ in itertools.islice(stopped.steps(tmp_path), 3):
        pass
    resumed = Trainer(recipe, pool)
    assert resumed.resume(tmp_path)
    assert resumed.step == 3
    assert [progress.step for progress in resumed.steps(tmp_path)] == [4, 5]


def test_without_minutes_the_clock_does_not_matter(pool, tmp_path):
    trainer = Trainer(RECIPE, pool)
    shares = [progress.share for progress in trainer.steps(tmp_path)]
    assert shares == pytest.approx([step / RECIPE.steps for step in range(1, RECIPE.steps + 1)])
