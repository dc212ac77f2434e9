"""`m2a calibrate`, and `m2a build-engine --int8`, in one process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m2a.commands.build_engine_command import _rebuild
from m2a.runtime.bundle import PACKAGED, open_bundle


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(4):
        random = np.random.default_rng(seed)
        picture = random.integers(0, 256, (64, 96, 3), np.uint8)
        Image.fromarray(picture).save(folder / f"{seed}.png")
    return folder


@pytest.fixture
def own_bundle(tiny_bundle, tmp_path, monkeypatch):
    """A copy that finds blur everywhere, to which variants may be added; the cache beside it."""
    folder = shutil.copytree(tiny_bundle, tmp_path / "own")
    manifest = json.loads((folder / "manifest.json").read_text())
    with np.load(folder / "reference.npz") as reference:
        manifest["threshold"] = float(np.quantile(reference["probability"], 0.2))
    (folder / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def test_a_bundle_is_calibrated_verified_and_run_in_int8(invoke, photos, own_bundle, tmp_path):
    done = invoke("calibrate", photos, "--bundle", own_bundle, "--method", "minmax")
    assert done.exit_code == 0, done.output
    assert "int8: passed the quality gate on 1 photo\n" in done.stdout
    assert "products in INT8" in done.stdout
    assert "calibrating with 0.png" in done.stderr
    bundle = open_bundle(own_bundle)
    assert bundle.precisions == ("fp32", "int8")
    assert bundle.manifest["variants"]["int8"]["gate"]["mask_iou"] >= 0.97

    verified = invoke("verify", "--bundle", own_bundle, "--json")
    assert verified.exit_code == 0, verified.output
    variants = json.loads(verified.stdout)["variants"]
    assert [variant["precision"] for variant in variants] == ["fp32", "int8"]
    assert variants[1]["stages"][1]["error"] > 1e-4  # it was INT8 that ran
    assert variants[1]["stages"][1]["limit"] == bundle.limits["int8"]["restore.residual"]

    reports = []
    for precision in ("int8", "auto"):
        told = invoke(
            *("run", photos / "0.png", "-o", tmp_path / f"{precision}.png"),
            *("--bundle", own_bundle, "--precision", precision, "--json"),
        )
        assert told.exit_code == 0, told.output
        reports.append(json.loads(told.stdout))
    assert (reports[0]["precision"], reports[0]["precision_reason"]) == ("int8", "asked for")
    assert reports[1]["precision"] == "fp32"
    assert "on a CPU" in reports[1]["precision_reason"]


def test_ranges_are_kept_and_json_is_one_object(invoke, photos, own_bundle, tmp_path):
    words = ("calibrate", photos, "--bundle", own_bundle, "--json")
    first, second = invoke(*words), invoke(*words)
    for done in (first, second):
        assert done.exit_code == 0, done.output
        content = json.loads(done.stdout)
        assert content["calibration"]["method"] == "percentile"
        assert content["gate"]["photos"] == 1
    assert "calibrating with" not in second.stderr
    assert "ranges of 3 photos from" in second.stderr
    assert len(list((tmp_path / "cache" / "m2a" / "calibration").glob("*.json"))) == 1


def test_fp16_is_judged_on_photos_too(invoke, photos, own_bundle):
    done = invoke("calibrate", photos, "--bundle", own_bundle, "--fp16")
    assert done.exit_code == 0, done.output
    assert "Largest activations, of at most 30,000:" in done.stdout
    record = open_bundle(own_bundle).manifest["variants"]["fp16"]
    assert record["gate"]["margin_db"] > 30


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nowhere",), "Calibration needs real photos with motion blur"),
        ((".",), "found no photos"),
        (("photos", "--bundle", str(PACKAGED)), "the bundle inside the package is not changed"),
        (("photos", "--gate-photos", "photos"), "what calibrated cannot judge"),
        (("photos", "--gate-photos", "photos", "--seed", "1"), "--seed: found it with"),
        (("photos", "--fp16", "--method", "minmax"), "--method: found it with --fp16"),
    ],
)
def test_misuse_is_one_line_and_writes_nothing(invoke, photos, own_bundle, words, told):
    before = (own_bundle / "manifest.json").read_bytes()
    if "--bundle" not in words:
        words = (*words, "--bundle", str(own_bundle))
    done = invoke("calibrate", *words)
    assert done.exit_code == 2
    assert told in done.stderr
    assert (own_bundle / "manifest.json").read_bytes() == before


def test_what_is_in_the_way_is_told_before_any_work(invoke, photos, own_bundle):
    (own_bundle / "int8").write_text("")
    done = invoke("calibrate", photos, "--bundle", own_bundle)
    assert done.exit_code == 1
    assert "int8 is in the way of the int8 graphs" in done.stderr
    assert "…" not in done.stderr


def test_a_photo_that_cannot_be_read_is_told_before_any_is_computed(invoke, photos, own_bundle):
    (photos / "9.png").write_bytes((photos / "0.png").read_bytes()[:3000])
    done = invoke("calibrate", photos, "--bundle", own_bundle)
    assert done.exit_code != 0
    assert "9.png" in done.stderr
    assert "calibrating with" not in done.stderr


def test_the_packaged_bundle_keeps_no_graphs_so_that_photos_build_its_engines_again(tmp_path):
    def rebuild(bundle):
        return _rebuild("int8", bundle, Path("photos"), "sm86", "rtx", None)

    packaged = open_bundle(PACKAGED)
    words = rebuild(packaged)
    assert words[words.index("--calibration") + 1] == str(Path("photos").resolve())
    copy = open_bundle(shutil.copytree(PACKAGED, tmp_path / "copy"))
    assert "--calibration" not in rebuild(copy)


def test_int8_engines_need_calibrated_graphs_or_photos(invoke, photos, own_bundle):
    refused = invoke("build-engine", "--int8", "--target", "sm86", "--bundle", own_bundle)
    assert refused.exit_code == 2
    assert "`m2a calibrate PHOTOS`" in refused.stderr
    assert "--calibration PHOTOS" in refused.stderr
    wrong = invoke("build-engine", "--calibration", photos, "--bundle", own_bundle)
    assert wrong.exit_code == 2

    built = invoke(
        *("build-engine", "--int8", "--calibration", photos),
        *("--target", "sm86", "--bundle", own_bundle, "--json"),
    )
    assert built.exit_code == 0, built.output
    assert json.loads(built.stdout)["precision"] == "int8"
    assert open_bundle(own_bundle).precisions == ("fp32", "int8")
