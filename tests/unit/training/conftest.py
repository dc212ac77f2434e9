"""Fixtures that the tests of training share."""

from __future__ import annotations

import pytest


@pytest.fixture
def pool(tmp_path):
    from pools import darkened_pool

    return darkened_pool(tmp_path / "pool")


@pytest.fixture
def tiny(monkeypatch):
    """The preset `small` is the tiny network here, and every step is reported."""
    from random_network import TINY

    import m2a.training.train
    import m2a.training.trainer
    from m2a.training.config import TrainingConfig

    monkeypatch.setattr(TrainingConfig, "network", property(lambda _: TINY))
    for module in (m2a.training.trainer, m2a.training.train):
        monkeypatch.setattr(module, "LOG_STEPS", 1)
