"""`recipes/shapes.py`: what it trains, times and writes down."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from recipe_scripts import load_script, render_samples, run_script, write_place

from m2a.models import M2AENetConfig
from m2a.models.cost import count_cost

SHAPES = ("width=4, blocks=[1,1,1,1]", "width=4, blocks=[0,1,1,2]")
CHEAPEST_FIRST = [
    M2AENetConfig(width=4, blocks=(0, 1, 1, 2)),
    M2AENetConfig(width=4, blocks=(1, 1, 1, 1)),
]


@pytest.fixture
def shapes(monkeypatch, tmp_path):
    """The script, with two crops to measure on and a small picture to time."""
    monkeypatch.chdir(tmp_path)
    write_place()
    return load_script("shapes", CROPS=2, PICTURE=(64, 96))


def test_shapes_are_trained_once_timed_and_listed(shapes):
    render_samples()
    run_script(shapes, "train", "recipe.toml", *SHAPES, "--photos", "photos")
    assert run_script(shapes, "train", "recipe.toml", *SHAPES, "--photos", "photos") == ""
    run_script(shapes, "time", "--repeats", "1")
    text = run_script(shapes, "table")
    rows = json.loads(Path("out/shapes.json").read_text())
    assert Path("out/shapes.md").read_text() == text
    assert [row["shape"]["blocks"] for row in rows] == [[0, 1, 1, 2], [1, 1, 1, 1]]
    assert [row["restore_flop"] for row in rows] == [count_cost(c).restore for c in CHEAPEST_FIRST]
    for row in rows:
        assert row["steps"] == 2
        assert row["gain"] == pytest.approx(np.mean(row["gains"]))
        assert len(row["gains"]) == 2
        assert 0 < row["gathers"] < 1
        assert row["restore"]["median"] > 0
    assert len(text.splitlines()) == 4


def test_an_unknown_field_is_refused_by_name(shapes):
    done = CliRunner().invoke(
        shapes.main, ["train", "recipe.toml", "depth=3", "--photos", "photos", "-o", "out"]
    )
    assert done.exit_code == 1
    assert "'depth'" in done.output
    assert not Path("out").exists()


@pytest.mark.parametrize("command", ["time", "table"])
def test_a_folder_without_runs_is_named(shapes, command):
    Path("out").mkdir()
    done = CliRunner().invoke(shapes.main, [command, "-o", "out"])
    assert done.exit_code == 1
    assert "out" in done.output


def test_the_length_of_a_blur_is_that_of_its_trajectory(shapes):
    from m2a.training.samples import Sample

    picture = np.zeros((8, 8, 3), np.uint8)
    mask = np.zeros((8, 8), bool)
    mask[2:4] = True
    trajectory = np.where(mask[..., None], np.float32([3, 4, 1, 1]), 0).astype(np.float32)
    sample = Sample(
        blurred=picture,
        sharp=picture,
        mask=mask,
        visible=mask,
        trajectory=trajectory,
        kind="objects",
    )
    assert shapes.blur_length(sample) == pytest.approx(10)
