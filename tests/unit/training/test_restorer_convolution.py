"""Where the restorer's kernels run, and what is said where they do not."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import pytest
import torch
from random_network import TINY

from m2a.errors import TrainingError
from m2a.training import restorer_convolution as module
from m2a.training.config import TrainingConfig
from m2a.training.restorer_convolution import restorer_convolution

GPU = torch.device("cuda")
HALF = TrainingConfig(restorer_precision="bfloat16")


@pytest.fixture
def machine(monkeypatch):
    """A machine that has all but what a test takes away."""
    found = {"capability": (9, 0), "triton": True}
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: found["capability"])
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: found[name] if name in found else find(name)
    )
    return found


def test_nothing_is_missing_on_a_hopper(machine):
    assert module._missing(HALF, GPU) is None


@pytest.mark.parametrize(
    ("lacks", "words"),
    [
        ({"capability": (7, 5)}, r"needs a GPU of compute capability 8\.0"),
        ({"triton": None}, "needs the Triton compiler"),
    ],
)
def test_what_is_missing_is_said_where_bfloat16_is_asked_for(machine, lacks, words):
    machine.update(lacks)
    with pytest.raises(TrainingError, match=words):
        restorer_convolution(HALF, GPU)
    assert restorer_convolution(replace(HALF, restorer_precision="float32"), GPU) is None


def test_a_width_that_16_does_not_divide_has_no_kernels(machine):
    with pytest.raises(TrainingError, match="width that 16 divides, found 4"):
        restorer_convolution(replace(HALF, shape=TINY), GPU)


def test_amds_gpus_have_no_kernels(machine, monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "6.4")
    with pytest.raises(TrainingError, match="needs an NVIDIA GPU"):
        restorer_convolution(HALF, GPU)


def test_a_cpu_trains_with_torchs_own_operations():
    assert restorer_convolution(TrainingConfig(), torch.device("cpu")) is None
