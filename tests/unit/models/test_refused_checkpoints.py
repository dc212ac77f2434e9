"""Files that are no checkpoints of this network: refused, with which words."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from m2a.errors import CheckpointError
from m2a.models import M2AENet
from m2a.models.checkpoint import (
    load_checkpoint,
)


@pytest.fixture
def state(tiny_network):
    return {name: tensor.clone() for name, tensor in tiny_network.state_dict().items()}


def test_a_foreign_state_dict_is_named_as_such(tmp_path):
    torch.save({"conv1.weight": torch.zeros(3), "fc.bias": torch.zeros(2)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "w.pth")
    assert "conv1.weight" in str(caught.value)
    assert "restorer.stem.weight" in str(caught.value)


def test_missing_and_surplus_weights_are_listed(state, tmp_path):
    del state["restorer.head.bias"]
    state["restorer.tail.bias"] = torch.zeros(3)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "w.pth")
    message = str(caught.value)
    assert "missing (1): restorer.head.bias" in message
    assert "not in the network (1): restorer.tail.bias" in message


def test_a_wrong_shape_is_named_with_the_expected_one(state, tmp_path):
    state["restorer.head.bias"] = torch.zeros(5)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"restorer\.head\.bias \(5,\), expected \(3,\)"):
        load_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(state, tmp_path, value):
    state["restorer.head.bias"][1] = value
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"not finite \(1\): restorer\.head\.bias"):
        load_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize(
    "odd",
    [
        lambda weight: weight.to_sparse(),
        lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
        lambda weight: weight.to(torch.float8_e4m3fn),
        lambda weight: weight.to(torch.complex64),
        lambda weight: weight.to(torch.int8),
        lambda weight: weight[:1].clone().expand_as(weight),
    ],
    ids=[
        "sparse",
        "quantised",
        "8 bits",
        "complex",
        "integers",
        "of which less is there",
    ],
)
@pytest.mark.filterwarnings("ignore")  # torch's own about kinds that it will give up
def test_weights_of_another_kind_are_refused_by_name(state, tmp_path, odd):
    name = "restorer.stem.weight"
    torch.save(state | {name: odd(state[name])}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=rf"of another kind \(1\): {re.escape(name)}"):
        load_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged], ids=str)
@pytest.mark.filterwarnings("ignore")  # torch's own, that they are a prototype
def test_a_nested_tensor_does_not_fit(state, tmp_path, layout):
    nested = torch.nested.nested_tensor([torch.zeros(2, 3), torch.zeros(4, 3)], layout=layout)
    torch.save(state | {"restorer.head.bias": nested}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"does not fit .*restorer\.head\.bias"):
        load_checkpoint(tmp_path / "w.pth")


def test_no_memory_is_taken_for_what_a_file_only_claims(state, tmp_path, monkeypatch):
    claimed = {f"mask_predictor.down.{n}.conv.weight": torch.empty(20_000, 0) for n in range(3)}
    save_file(state | claimed, tmp_path / "w.safetensors")
    built_on = []

    def build(config):
        built_on.append(torch.get_default_device().type)
        assert built_on == ["meta"]  # else it takes 14 GB a convolution
        return M2AENet(config)

    monkeypatch.setattr("m2a.models.checkpoint.M2AENet", build)
    with pytest.raises(CheckpointError, match="does not fit"):
        load_checkpoint(tmp_path / "w.safetensors")
    assert built_on == ["meta"]


def test_more_than_can_be_counted_is_refused(state, tmp_path):
    claimed = {
        "restorer.motion.coefficients.weight": torch.empty(0, 1, 1, 1),
        "restorer.motion.mix.weight": torch.empty(0, 2**62, 1, 1),
    }
    save_file(state | claimed, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="belong to no M2AENet"):
        load_checkpoint(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    "content",
    [
        b"not a checkpoint\n",
        b"",
        b"\x80\x02",
        b"\x80\x05",
        b"PK\x03\x04 cut short",
        b"\x80\x02X\x02\x00\x00\x00\xff\xfe.",
        b"\x80\x02h\x07.",
        bytes(range(256)),
    ],
)
def test_a_file_that_is_no_pickle_is_refused(tmp_path, content):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"w\.pth"):
        load_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize("content", [b"not a checkpoint\n", b"", b"\xff" * 64])
def test_a_damaged_safetensors_file_is_refused(tmp_path, content):
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_checkpoint(tmp_path / "w.safetensors")


class Malicious:
    """Unpickling it creates a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("save", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o))])
def test_a_malicious_pickle_is_refused_and_not_executed(state, tmp_path, save):
    trap = tmp_path / "executed"
    save({"state_dict": state, "extra": Malicious(trap)}, tmp_path / "w.pth")
    with pytest.raises(
        CheckpointError, match=r"would have to execute code.*torch\.save\(model\.state_dict"
    ):
        load_checkpoint(tmp_path / "w.pth")
    assert not trap.exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"none\.pth: found no such file, expected a checkpoint"
    ):
        load_checkpoint(tmp_path / "none.pth")


@pytest.mark.parametrize("name", ["photo.jpg", "w.pth"])
def test_a_file_of_another_kind_is_told_without_torchs_words(tmp_path, name):
    (tmp_path / name).write_bytes(b"\xff\xd8\xff\xe0 a photo")
    with pytest.raises(CheckpointError, match="found a file of another kind") as caught:
        load_checkpoint(tmp_path / name)
    assert "weights_only" not in str(caught.value)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="found a directory"):
        load_checkpoint(tmp_path)


def test_a_tensor_alone_is_refused(tmp_path):
    torch.save(torch.zeros(3), tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="holds a Tensor"):
        load_checkpoint(tmp_path / "w.pth")


def test_a_dictionary_without_tensors_is_refused_with_its_keys(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="epoch"):
        load_checkpoint(tmp_path / "w.pth")


def test_shapes_that_belong_to_no_network_are_refused(state, tmp_path):
    name = "restorer.motion.coefficients.weight"
    save_file(state | {name: torch.zeros(4, 0, 1, 1)}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="belong to no M2AENet"):
        load_checkpoint(tmp_path / "w.safetensors")
