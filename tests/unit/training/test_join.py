"""`recipes/join.py`: the restorer of one checkpoint with the mask predictor of another."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from random_network import TINY, random_network
from safetensors import safe_open

from m2a.models.checkpoint import HEADER, load_checkpoint, open_checkpoint, save_checkpoint

SCRIPT = Path(__file__).resolve().parents[3] / "recipes" / "join.py"


@pytest.fixture
def join(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main = runpy.run_path(str(SCRIPT))["main"]
    for number, name in enumerate(["restorer", "mask"]):
        network = random_network(TINY, seed=number)
        history = {"training": [{"recipe": name}]}
        save_checkpoint(network, tmp_path / f"{name}.safetensors", metadata=history)
    return lambda *arguments: CliRunner().invoke(main, arguments)


def test_each_part_comes_from_its_own_checkpoint_with_its_history(join):
    done = join("restorer.safetensors", "mask.safetensors", "-o", "joined.safetensors")
    assert done.exit_code == 0, done.output
    joined = load_checkpoint(Path("joined.safetensors")).state_dict()
    parts = {
        name: load_checkpoint(Path(f"{name}.safetensors")).state_dict()
        for name in ("restorer", "mask")
    }
    for name, tensor in joined.items():
        source = "restorer" if name.startswith("restorer.") else "mask"
        assert torch.equal(tensor, parts[source][name]), name
    with safe_open("joined.safetensors", framework="pt") as file:
        history = json.loads(file.metadata()[HEADER])["training"]
    assert history["restorer"] == [{"recipe": "restorer"}]
    assert history["mask_predictor"] == [{"recipe": "mask"}]


def test_what_was_joined_before_brings_the_history_of_the_part_alone(join):
    join("restorer.safetensors", "mask.safetensors", "-o", "joined.safetensors")
    done = join("joined.safetensors", "joined.safetensors", "-o", "again.safetensors")
    assert done.exit_code == 0, done.output
    history = open_checkpoint(Path("again.safetensors")).header["training"]
    assert history == {
        "restorer": [{"recipe": "restorer"}],
        "mask_predictor": [{"recipe": "mask"}],
    }


def test_each_part_keeps_its_own_shape(join):
    wide = replace(TINY, mask_stem_width=8, mask_blocks=(1, 0, 1, 1))
    save_checkpoint(random_network(wide, seed=2), Path("wide.safetensors"))
    deep = replace(TINY, blocks=(1, 2, 1, 1), trajectory_points=4)
    save_checkpoint(random_network(deep, seed=3), Path("deep.safetensors"))
    done = join("deep.safetensors", "wide.safetensors", "-o", "joined.safetensors")
    assert done.exit_code == 0, done.output
    config = load_checkpoint(Path("joined.safetensors")).config
    assert config == replace(wide, blocks=(1, 2, 1, 1), trajectory_points=4)


def test_threshold_and_dilation_travel_in_the_header(join):
    settings = ("--threshold", "0.2", "--dilate", "8")
    names = ("restorer.safetensors", "mask.safetensors")
    assert join(*names, "-o", "joined.safetensors", *settings).exit_code == 0
    header = open_checkpoint(Path("joined.safetensors")).header
    assert (header["threshold"], header["dilate"]) == (0.2, 8)
    names = ("restorer.safetensors", "joined.safetensors")  # they belong to the mask predictor
    assert join(*names, "-o", "again.safetensors", "--dilate", "0").exit_code == 0
    header = open_checkpoint(Path("again.safetensors")).header
    assert (header["threshold"], header["dilate"]) == (0.2, 0)


@pytest.mark.parametrize("setting", [("--threshold", "nan"), ("--dilate", "5000")])
def test_what_export_would_refuse_is_not_written(join, setting):
    done = join("restorer.safetensors", "mask.safetensors", "-o", "joined.safetensors", *setting)
    assert done.exit_code == 1
    assert not Path("joined.safetensors").exists()


def test_in_half_precision_the_file_is_half_as_large(join):
    names = ["restorer.safetensors", "mask.safetensors", "-o"]
    assert join(*names, "full.safetensors").exit_code == 0
    assert join(*names, "half.safetensors", "--half").exit_code == 0
    full, half = (Path(f"{name}.safetensors") for name in ("full", "half"))
    assert half.stat().st_size < 0.65 * full.stat().st_size  # the header is as long
    expected = load_checkpoint(full).state_dict()
    for name, tensor in load_checkpoint(half).state_dict().items():
        assert tensor.dtype == expected[name].dtype
        assert torch.allclose(tensor, expected[name], rtol=2**-10, atol=1e-7), name


def test_what_is_no_checkpoint_is_refused(join):
    Path("text.safetensors").write_text("not a checkpoint")
    done = join("restorer.safetensors", "text.safetensors", "-o", "joined.safetensors")
    assert done.exit_code == 1
    assert not Path("joined.safetensors").exists()
