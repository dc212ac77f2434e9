"""Checkpoints: what is read, and what is refused with which words."""

from __future__ import annotations

import json
import os
import pickle
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from random_network import TINY, random_network
from safetensors import safe_open
from safetensors.torch import save_file

from m2a.errors import CheckpointError
from m2a.models import PRESETS, M2AENet, M2AENetConfig
from m2a.models.checkpoint import (
    HEADER,
    infer_config,
    load_checkpoint,
    open_checkpoint,
    save_checkpoint,
)


@pytest.fixture
def state(tiny_network):
    return {name: tensor.clone() for name, tensor in tiny_network.state_dict().items()}


def assert_same(loaded, expected):
    assert loaded.config == expected.config
    assert not loaded.training
    for name, tensor in expected.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_a_saved_checkpoint_loads_as_the_same_network(tiny_network, tmp_path):
    save_checkpoint(tiny_network, tmp_path / "a.safetensors")
    assert_same(load_checkpoint(tmp_path / "a.safetensors"), tiny_network)


def test_saving_leaves_one_file(tiny_network, tmp_path):
    save_checkpoint(tiny_network, tmp_path / "a.safetensors")
    save_checkpoint(tiny_network, tmp_path / "a.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_the_same_network_gives_the_same_file(tiny_network, tmp_path):
    for name in ("a.safetensors", "b.safetensors"):
        save_checkpoint(tiny_network, tmp_path / name, metadata={"training": ["x"]})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_more_entries_for_the_header_are_kept(tiny_network, tmp_path):
    save_checkpoint(tiny_network, tmp_path / "a.safetensors", metadata={"training": "twice"})
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()[HEADER])
    assert header == {"training": "twice", "config": tiny_network.config.to_json()}
    assert_same(load_checkpoint(tmp_path / "a.safetensors"), tiny_network)


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
@pytest.mark.parametrize("key", [None, "state_dict", "params_ema", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_a_pickled_state_dict_loads_however_it_is_wrapped(
    tiny_network, state, tmp_path, suffix, key, prefix
):
    content = {prefix + name: tensor for name, tensor in state.items()}
    path = tmp_path / f"weights{suffix}"
    torch.save({key: content, "epoch": 3} if key else content, path)
    assert_same(load_checkpoint(path), tiny_network)


def test_a_stored_configuration_is_taken(tiny_network, state, tmp_path):
    torch.save({"state_dict": state, "config": TINY.to_json()}, tmp_path / "w.pth")
    assert_same(load_checkpoint(tmp_path / "w.pth"), tiny_network)


def test_safetensors_without_a_configuration_are_inferred(tiny_network, state, tmp_path):
    save_file(state, tmp_path / "w.safetensors")
    assert_same(load_checkpoint(tmp_path / "w.safetensors"), tiny_network)


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        *PRESETS.values(),
        M2AENetConfig(
            width=6,
            blocks=(0, 2, 1, 3),
            trajectory_points=4,
            mask_stem_width=3,
            mask_widths=(4, 5, 6, 7),
            mask_blocks=(2, 0, 1, 0),
        ),
    ],
)
def test_the_inferred_configuration_is_the_true_one(config):
    """All of it but what no shape tells."""
    found = infer_config(random_network(config, seed=0).state_dict())
    assert found == replace(config, mask_mirrored=False)


def test_a_header_that_does_not_say_whether_the_mask_is_mirrored_is_refused(state, tmp_path):
    header = json.dumps({"config": {"mask_mirrored": "yes"}})
    save_file(state, tmp_path / "w.safetensors", {HEADER: header})
    with pytest.raises(CheckpointError, match=r"mask_mirrored is 'yes', expected true or false"):
        load_checkpoint(tmp_path / "w.safetensors")


def test_half_precision_weights_load_as_float32(state, tmp_path):
    torch.save(
        {n: t.half() if t.is_floating_point() else t for n, t in state.items()}, tmp_path / "w.pth"
    )
    loaded = load_checkpoint(tmp_path / "w.pth")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


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


@pytest.mark.parametrize("config", [[], {"width": 10**9}, {"lr": 0.1}, {"width": "wide"}])
def test_a_foreign_stored_configuration_does_not_matter(state, tmp_path, config):
    """The shapes decide: a trainer may store its own settings under that name."""
    save_file(state, tmp_path / "w.safetensors", {"config": json.dumps(config)})
    assert load_checkpoint(tmp_path / "w.safetensors").config == TINY


def test_shapes_that_belong_to_no_network_are_refused(state, tmp_path):
    name = "restorer.motion.coefficients.weight"
    save_file(state | {name: torch.zeros(4, 0, 1, 1)}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="belong to no M2AENet"):
        load_checkpoint(tmp_path / "w.safetensors")


def test_the_header_is_read(tiny_network, tmp_path):
    path = tmp_path / "a.safetensors"
    save_checkpoint(tiny_network, path, metadata={"threshold": 0.2})
    header = open_checkpoint(path).header
    assert header == {"config": tiny_network.config.to_json(), "threshold": 0.2}


def test_files_of_others_have_no_header(tiny_network, tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(tiny_network.state_dict(), path)
    assert open_checkpoint(path).header == {}
    torch.save(tiny_network.state_dict(), tmp_path / "a.pth")
    assert open_checkpoint(tmp_path / "a.pth").header == {}


def test_a_file_may_have_no_metadata_at_all(tiny_network, tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(tiny_network.state_dict(), path)
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps({"__metadata__": None, **json.loads(content[8:end])}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[end:])
    assert open_checkpoint(path).header == {}


@pytest.mark.parametrize("entry", ["no JSON", "[1]", "[" * 100_000], ids=["text", "list", "deep"])
def test_a_header_of_another_kind_is_refused(tiny_network, tmp_path, entry):
    path = tmp_path / "a.safetensors"
    save_file(tiny_network.state_dict(), path, {HEADER: entry})
    with pytest.raises(CheckpointError, match="not a JSON object"):
        open_checkpoint(path)


def test_a_weight_beyond_fp16_is_named(tmp_path):
    network = random_network(TINY, seed=0)
    with torch.no_grad():
        network.restorer.head.bias[0] = 70_000
    with pytest.raises(CheckpointError, match=r"beyond FP16 \(1\): restorer.head.bias"):
        save_checkpoint(network, tmp_path / "a.safetensors", half=True)
    assert not list(tmp_path.iterdir())
