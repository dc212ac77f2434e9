"""`m2a eval`."""

from __future__ import annotations

import json

import pytest
from data_sets import make_gopro, make_reloblur, noise, save, square
from PIL import Image

from m2a.models.checkpoint import save_checkpoint
from m2a.runtime.bundle import open_bundle


@pytest.fixture
def known(tmp_path):
    folder = tmp_path / "known"
    save(folder / "blurred/a.png", noise(0))
    save(folder / "sharp/a.png", noise(1))
    save(folder / "mask/a.png", square())
    return folder


def test_table_json_and_sheet(invoke, known, tmp_path):
    done = invoke("eval", "known", "--sheet", "sheet.png", "--save", "figures.json", "--json")
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert json.loads((tmp_path / "figures.json").read_text()) == report
    assert report["measured"]["backend"] == "ort-cpu"
    assert [score["name"] for score in report["scores"]] == ["a"]
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
    gain = report["summary"]["gain_db"]
    table = invoke("eval", "known").stdout
    assert f"a {gain:+.2f} " in " ".join(table.split())
    assert f"gain_db {gain:.4g} " in " ".join(table.split())


def test_a_damaged_picture_fails_alone(invoke, known, tmp_path):
    for name in ("b", "c"):
        save(known / f"blurred/{name}.png", noise(2))
        save(known / f"sharp/{name}.png", noise(3))
        save(known / f"mask/{name}.png", square())
    (known / "mask/b.png").write_bytes(b"no picture")
    done = invoke("eval", "known", "--save", "figures.json", "--sheet", "sheet.png")
    assert done.exit_code == 1
    assert "mask/b.png" in done.stderr
    assert "1 of 3 pictures could not be measured" in done.stderr
    report = json.loads((tmp_path / "figures.json").read_text())
    assert [score["name"] for score in report["scores"]] == ["a", "c"]
    assert list(report["failed"]) == ["b"]
    assert (tmp_path / "sheet.png").exists()


def test_where_every_picture_is_damaged_nothing_is_written(invoke, known, tmp_path):
    (known / "blurred/a.png").write_bytes(b"no picture")
    failed = invoke("eval", "known", "--save", "figures.json")
    assert failed.exit_code == 1
    assert "blurred/a.png" in failed.stderr
    assert not (tmp_path / "figures.json").exists()


@pytest.mark.parametrize("option", ["--sheet=there.png", "--save=there.json"])
def test_what_exists_is_replaced_on_demand_alone(invoke, known, tmp_path, option):
    there = tmp_path / option.partition("=")[2]
    there.write_bytes(b"mine")
    refused = invoke("eval", "known", option)
    assert (refused.exit_code, there.read_bytes()) == (2, b"mine")
    assert "--overwrite" in refused.stderr
    assert invoke("eval", "known", option, "--overwrite").exit_code == 0
    assert there.read_bytes() != b"mine"


@pytest.mark.parametrize("option", ["--sheet=sheet.txt", "--save=figures.txt"])
def test_another_suffix_is_refused_before_any_work(invoke, tmp_path, option):
    refused = invoke("eval", "nowhere", option)
    assert refused.exit_code == 2
    assert "suffix" in refused.stderr


def test_a_checkpoint_has_the_figures_of_its_bundle(invoke, known, tiny_checkpoint, monkeypatch):
    threads = []
    monkeypatch.setattr("torch.set_num_threads", threads.append)
    arguments = ("eval", "known", "--json", "--threshold", 0.4, "--dilate", 1)
    bundle = json.loads(invoke(*arguments).stdout)
    checkpoint = json.loads(invoke(*arguments, "--ckpt", tiny_checkpoint, "--threads", 3).stdout)
    assert threads == [3]
    assert checkpoint["measured"]["backend"] == "torch"
    assert bundle["summary"]["coverage"] > 0
    for figure in ("gain_db", "iou", "coverage", "flop_share"):
        expected = bundle["summary"][figure]
        assert checkpoint["summary"][figure] == pytest.approx(expected, abs=1e-3), figure


def test_a_checkpoint_is_measured_with_the_threshold_that_it_says(
    invoke, known, tiny_network, tmp_path
):
    save_checkpoint(tiny_network, tmp_path / "a.safetensors", metadata={"threshold": 0.4})
    told = invoke("eval", "known", "--json", "--ckpt", tmp_path / "a.safetensors")
    measured = json.loads(told.stdout)["measured"]
    assert (measured["threshold"], measured["dilate"]) == (0.4, 4)


def test_an_ensemble_is_measured_with_what_it_costs(invoke, known, tiny_bundle):
    once, twice = (
        json.loads(invoke("eval", "known", "--ensemble", turns, "--json").stdout)
        for turns in ("1", "2")
    )
    assert (once["measured"]["ensemble"], twice["measured"]["ensemble"]) == (1, 2)
    (before,), (after,) = once["scores"], twice["scores"]
    assert before["psnr_after"] != after["psnr_after"]
    cost = open_bundle(tiny_bundle).manifest["model"]["flop_per_pixel"]
    mask, restore = cost["mask"], cost["restore"] * after["coverage"]
    share = 2 * (mask + restore) / (mask + cost["restore"])
    assert after["flop_share"] == pytest.approx(share)
    assert "mean of 2 turns" in invoke("eval", "known", "--ensemble", "2").stdout


def test_a_checkpoint_has_no_ensemble(invoke, known, tiny_checkpoint):
    refused = invoke("eval", "known", "--ckpt", tiny_checkpoint, "--ensemble", "2")
    assert refused.exit_code == 2
    assert "--ensemble" in refused.stderr


def test_a_checkpoint_is_not_measured_on_a_backend(invoke, known, tiny_checkpoint):
    refused = invoke("eval", "known", "--ckpt", tiny_checkpoint, "--backend", "ort-cpu")
    assert refused.exit_code == 2
    assert "--ckpt beside --backend" in refused.stderr


def test_a_checkpoint_that_is_not_there_is_a_misuse(invoke, known):
    refused = invoke("eval", "known", "--ckpt", "none.safetensors")
    assert refused.exit_code == 2
    assert "none.safetensors" in refused.stderr


@pytest.mark.parametrize(
    ("make", "options", "names"),
    [
        (make_reloblur, (), ["scene1/00/00"]),
        (make_reloblur, ("--split", "train"), ["s01/00/00", "s01/00/01", "s01/01/00", "s02/00/00"]),
        (make_gopro, ("--blur-gamma",), ["GOPR0384_11_00/000001"]),
    ],
)
def test_the_data_sets_are_measured_as_they_are_distributed(invoke, tmp_path, make, options, names):
    make(tmp_path / "set")
    report = json.loads(invoke("eval", "set", "--json", *options).stdout)
    assert [score["name"] for score in report["scores"]] == names
    assert report["summary"]["blurred"] == len(names)


def test_false_alarms_on_sharp_photographs(invoke, tmp_path):
    save(tmp_path / "photos/street.png", noise(0))
    refused = invoke("eval", "photos")
    assert refused.exit_code == 2
    assert "--layout sharp" in refused.stderr
    summary = json.loads(invoke("eval", "photos", "--layout", "sharp", "--json").stdout)["summary"]
    assert summary["coverage_unblurred"] > 0
    assert summary["gain_db"] is None
