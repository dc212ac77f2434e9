"""A training so short that a test can wait for it, and what is asked of its weights."""

from __future__ import annotations

import torch
from pools import SYNTHESIS

from m2a.training.config import TrainingConfig
from m2a.training.records import SHARD_SAMPLES

RECIPE = TrainingConfig(
    samples=SHARD_SAMPLES,
    synthesis=SYNTHESIS,
    steps=6,
    batch=4,
    active_pixels=1000,
    warmup=2,
    checkpoint_every=3,
)


def folder_of(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    return folder


def assert_same_weights(first, second):
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
