"""Checkpoints: what is written and read, and what their header says."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from random_network import TINY, random_network
from safetensors import safe_open
from safetensors.torch import save_file

from m2a.errors import CheckpointError
from m2a.models import PRESETS, M2AENetConfig
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


@pytest.mark.parametrize("config", [[], {"width": 10**9}, {"lr": 0.1}, {"width": "wide"}])
def test_a_foreign_stored_configuration_does_not_matter(state, tmp_path, config):
    """The shapes decide: a trainer may store its own settings under that name."""
    save_file(state, tmp_path / "w.safetensors", {"config": json.dumps(config)})
    assert load_checkpoint(tmp_path / "w.safetensors").config == TINY


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
