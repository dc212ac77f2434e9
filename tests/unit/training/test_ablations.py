"""`recipes/ablations.py`: what its trainings differ in, and what it writes down."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from recipe_scripts import RECIPE, load_script, render_samples, run_script, write_place

from m2a.models.checkpoint import load_checkpoint

SHAPE = "[shape]\nwidth = 4\nmask_stem_width = 4\nmask_widths = [4, 8, 8, 8]\n"
MOTION_HEAD = "restorer.motion.coefficients"


@pytest.fixture
def ablations(monkeypatch, tmp_path):
    """The script, with two crops to measure on."""
    monkeypatch.chdir(tmp_path)
    write_place()
    Path("recipe.toml").write_text(f"trajectory_weight = 0.2\n{RECIPE}{SHAPE}")
    Path("last.toml").write_text(RECIPE.replace('parts = ["restorer"]', "") + SHAPE)
    return load_script("ablations", CROPS=2)


def record(name):
    return json.loads(Path("out", name, "measured.json").read_text())


def recipe_of(name):
    """The recipe that a line was trained by."""
    state = torch.load(Path("out", name, "state.pt"), weights_only=True)
    return json.loads(state["history"])[-1]["recipe"]


def test_the_lines_differ_in_what_they_leave_out(ablations):
    config = ablations.read_recipe(Path("recipe.toml"))
    weights = {
        name: (line.trajectory_weight, line.reblur_weight, line.frozen)
        for name, changes in ablations.RESTORER_LINES.items()
        for line in [replace(config, **changes)]
    }
    assert weights == {
        "trajectory-loss": (0.2, 0.0, ()),
        "no-motion-analyzer": (0.0, 0.0, (MOTION_HEAD,)),
        "no-motion-loss": (0.0, 0.0, ()),
        "reblur-loss": (0.0, 3.0, ()),
        "both-motion-losses": (0.2, 3.0, ()),
        "charbonnier": (0.015, 0.0, ()),
        "charbonnier-frequency": (0.015, 0.0, ()),
    }


def test_lines_begin_alike_and_are_trained_and_measured_once(ablations, monkeypatch):
    names = ("trajectory-loss", "no-motion-analyzer")
    lines = {name: ablations.RESTORER_LINES[name] for name in names}
    monkeypatch.setattr(ablations, "RESTORER_LINES", lines)
    render_samples()
    arguments = ("restorer", "recipe.toml", "--photos", "photos")
    run_script(ablations, *arguments)
    assert run_script(ablations, *arguments) == ""
    reference, without = (recipe_of(name) for name in names)
    different = {field for field in reference if reference[field] != without[field]}
    assert different == {"frozen", "trajectory_weight"}
    begun = [load_checkpoint(Path(f"out/random-{name}.safetensors")).state_dict() for name in names]
    trained = load_checkpoint(Path("out/no-motion-analyzer/model.safetensors")).state_dict()
    for name, tensor in begun[0].items():
        if name.startswith(f"{MOTION_HEAD}."):
            assert tensor.any()
            assert not begun[1][name].any()
            assert not trained[name].any()
        else:
            assert torch.equal(begun[1][name], tensor)
    assert set(record("no-motion-analyzer")["angles"]) == {90.0}  # nothing moves
    text = run_script(ablations, "table")
    assert Path("out/ablations.md").read_text() == text
    assert [line.split(" | ")[0] for line in text.splitlines()[2:]] == [f"| {n}" for n in names]


def test_the_last_stages_go_on_from_given_weights_which_are_measured_too(ablations):
    render_samples()
    ablations.begun(ablations.read_recipe(Path("last.toml")), Path("init.safetensors"))
    run_script(
        ablations, "last-stage", "last.toml", "--photos", "photos", "--init", "init.safetensors"
    )
    records = {name: record(name) for name in ("parts-apart", "straight-through", "start")}
    assert [records[name]["steps"] for name in records] == [2, 2, 0]
    assert {len(each["predicted_gains"]) for each in records.values()} == {2}
    assert len({str(each["gains"]) for each in records.values()}) == 3
    lines = run_script(ablations, "table").splitlines()
    assert len(lines) == 2 + 3
    first, *others = ([cell.strip() for cell in line.split("|")] for line in lines[2:])
    for own, each in zip(others, ("straight-through", "start"), strict=True):
        gains = torch.tensor([records[each]["gains"], records["parts-apart"]["gains"]])
        difference = (gains[0] - gains[1]).mean().item()
        assert own[4].startswith(f"{difference:+.3f} ± ")
    assert first[4] == first[7] == ""


def test_a_folder_without_runs_is_named(ablations):
    Path("out").mkdir()
    done = CliRunner().invoke(ablations.main, ["table", "-o", "out"])
    assert done.exit_code == 1
    assert "out: found no measured.json" in done.output
