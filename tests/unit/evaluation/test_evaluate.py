"""Evaluation of a folder through the deployed pipeline."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from PIL import Image

from m2a.errors import UsageError
from m2a.evaluation import Evaluation, Score, evaluate, overlap, psnr
from m2a.evaluation.metrics import ssim_map
from m2a.runtime import load


@pytest.fixture(scope="module")
def deblurrer(tiny_bundle):
    return load(tiny_bundle)


def noise(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Two pictures: one with a blurred square, one where nothing moved."""
    for name in ("blurred", "sharp", "mask"):
        (tmp_path / name).mkdir()
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:40] = 255
    for name, seed, label in (("a", 0, mask), ("b", 1, mask * 0)):
        sharp = noise(seed, 40, 60, 3)
        blurred = sharp.copy()
        blurred[label > 0] //= 2
        Image.fromarray(blurred).save(tmp_path / "blurred" / f"{name}.png")
        Image.fromarray(sharp).save(tmp_path / "sharp" / f"{name}.png")
        Image.fromarray(label).save(tmp_path / "mask" / f"{name}.png")
    return tmp_path


def load_arrays(folder, name):
    return [np.asarray(Image.open(folder / part / f"{name}.png")) for part in ("blurred", "sharp")]


def test_a_picture_scores_what_the_pipeline_and_the_metrics_give(folder, deblurrer):
    score = evaluate(deblurrer, folder).scores[0]
    blurred, sharp = load_arrays(folder, "a")
    mask = np.asarray(Image.open(folder / "mask" / "a.png")) > 0
    result = deblurrer(blurred)
    found = overlap(result.probability >= deblurrer.threshold, mask)
    assert score.name == "a"
    assert score.psnr_before == psnr(blurred, sharp, mask)
    assert score.psnr_after == psnr(result.image, sharp, mask)
    assert score.gain == pytest.approx(score.psnr_after - score.psnr_before)
    assert (score.iou, score.precision, score.recall) == (
        found.iou,
        found.precision,
        found.recall,
    )
    assert score.coverage == result.coverage


def test_similarity_and_the_whole_picture_are_scored_too(folder, deblurrer):
    still, score = (evaluate(deblurrer, folder).scores[i] for i in (1, 0))
    blurred, sharp = load_arrays(folder, "a")
    mask = np.asarray(Image.open(folder / "mask" / "a.png")) > 0
    result = deblurrer(blurred)
    assert score.ssim_before == ssim_map(blurred, sharp)[mask].mean()
    assert score.ssim_after == ssim_map(result.image, sharp)[mask].mean()
    assert score.psnr_whole_before == psnr(blurred, sharp, np.ones_like(mask))
    assert score.psnr_whole_after == psnr(result.image, sharp, np.ones_like(mask))
    assert (still.ssim_before, still.ssim_after) == (None, None)
    assert still.psnr_whole_before == math.inf


def test_what_the_folder_does_not_tell_has_no_score(folder, deblurrer):
    score = evaluate(deblurrer, folder).scores[0]
    assert (score.visible_iou, score.angle_error) == (None, None)


def test_visible_masks_and_true_motion_are_scored_where_they_are(folder, deblurrer):
    blurred, _ = load_arrays(folder, "a")
    result = deblurrer(blurred)
    (folder / "visible").mkdir()
    (folder / "motion").mkdir()
    found = (result.probability >= deblurrer.threshold).astype(np.uint8) * 255
    Image.fromarray(found).save(folder / "visible" / "a.png")
    turned = result.motion[:10, :15].copy()
    turned[..., :2] = np.stack([-turned[..., 1], turned[..., 0]], axis=-1)
    np.save(folder / "motion" / "a.npy", turned * 100)
    score = evaluate(deblurrer, folder).scores[0]
    assert score.visible_iou == 1
    assert score.angle_error == pytest.approx(90, abs=1e-3)


@pytest.mark.parametrize("content", [b"no array", np.zeros((10, 15, 3)), np.zeros((99, 1, 4))])
def test_a_motion_of_another_form_is_refused_by_name(folder, deblurrer, content):
    (folder / "motion").mkdir()
    path = folder / "motion" / "a.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(UsageError, match=r"motion.a\.npy"):
        evaluate(deblurrer, folder)


def test_the_share_of_the_dense_arithmetic_follows_the_coverage(folder, deblurrer):
    evaluation = evaluate(deblurrer, folder)
    cost = deblurrer.bundle.manifest["model"]["flop_per_pixel"]
    coverage = np.mean([score.coverage for score in evaluation.scores])
    dense = cost["mask"] + cost["restore"]
    share = (cost["mask"] + coverage * cost["restore"]) / dense
    assert evaluation.summary()["flop_share"] == pytest.approx(share)


def test_where_nothing_moved_there_is_no_psnr(folder, deblurrer):
    score = evaluate(deblurrer, folder).scores[1]
    assert (score.psnr_before, score.psnr_after, score.gain) == (None, None, None)


def test_every_picture_is_reported_as_it_is_done(folder, deblurrer):
    reported = []
    evaluation = evaluate(deblurrer, folder, progress=reported.append)
    assert tuple(reported) == evaluation.scores
    assert [score.name for score in reported] == ["a", "b"]


def test_the_report_is_json(folder, deblurrer):
    report = evaluate(deblurrer, folder).to_json()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["summary"]["pictures"] == 2
    assert [score["name"] for score in report["scores"]] == ["a", "b"]


def score_of(**fields):
    usual = {"iou": 0.5, "precision": 0.5, "recall": 0.5, "coverage": 0.2}
    usual |= {"psnr_whole_before": 30.0, "psnr_whole_after": 31.0}
    usual |= dict.fromkeys(("ssim_before", "ssim_after", "visible_iou", "angle_error"))
    return Score(**({"name": "x", "psnr_before": 20.0, "psnr_after": 21.0} | usual | fields))


def test_the_summary_averages_blurred_and_still_pictures_apart():
    summary = Evaluation(
        scores=(
            score_of(psnr_after=22.0, iou=0.4),
            score_of(psnr_after=19.0, iou=0.8),
            score_of(psnr_before=None, psnr_after=None, iou=0.0, coverage=0.05),
        )
    ).summary()
    assert (summary["pictures"], summary["blurred"]) == (3, 2)
    assert summary["gain_db"] == pytest.approx(0.5)
    assert summary["gain_db_worst"] == pytest.approx(-1)
    assert summary["share_below_minus_0.1_db"] == pytest.approx(0.5)
    assert summary["iou"] == pytest.approx(0.6)
    assert summary["coverage"] == pytest.approx(0.15)
    assert summary["coverage_unblurred"] == pytest.approx(0.05)


def test_a_summary_without_blurred_pictures_has_no_gain():
    summary = Evaluation(scores=(score_of(psnr_before=None, psnr_after=None),)).summary()
    assert summary["gain_db"] is None
    assert summary["iou"] is None
    assert summary["blurred"] == 0


def test_a_summary_without_still_pictures_has_no_false_alarms():
    assert Evaluation(scores=(score_of(),)).summary()["coverage_unblurred"] is None


def test_a_report_with_an_infinite_psnr_is_json():
    """JSON has no Infinity; a strict reader refuses it."""
    report = Evaluation(scores=(score_of(psnr_before=math.inf, psnr_after=math.inf),)).to_json()
    json.dumps(report, allow_nan=False)


def test_a_picture_that_was_perfect_and_stayed_so_gains_nothing():
    assert score_of(psnr_before=math.inf, psnr_after=math.inf).gain == 0


def test_a_perfect_restoration_counts_as_100_db_and_keeps_the_mean_finite():
    assert score_of(psnr_before=30.0, psnr_after=math.inf).gain == pytest.approx(70)


@pytest.mark.parametrize("missing", ["blurred", "sharp", "mask"])
def test_a_missing_folder_is_named(folder, deblurrer, missing):
    (folder / missing).rename(folder / "elsewhere")
    with pytest.raises(UsageError, match=f"has no folder {missing};"):
        evaluate(deblurrer, folder)


def test_an_empty_folder_is_a_misuse(folder, deblurrer):
    for path in (folder / "blurred").iterdir():
        path.unlink()
    with pytest.raises(UsageError, match="holds no pictures"):
        evaluate(deblurrer, folder)


@pytest.mark.parametrize("part", ["sharp", "mask"])
def test_a_picture_without_its_partner_is_named(folder, deblurrer, part):
    (folder / part / "b.png").unlink()
    with pytest.raises(UsageError, match=r"b\.png needs exactly one"):
        evaluate(deblurrer, folder)


def test_a_partner_of_another_size_is_a_misuse(folder, deblurrer):
    Image.fromarray(noise(5, 41, 60, 3)).save(folder / "sharp" / "a.png")
    with pytest.raises(UsageError, match=r"uint8\[41, 60, 3\], expected uint8\[40, 60, 3\]"):
        evaluate(deblurrer, folder)
