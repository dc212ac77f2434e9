"""Evaluation of a folder through the deployed pipeline."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import structural_similarity

from m2a.errors import UsageError
from m2a.evaluation import Arithmetic, Pair, evaluate, find_pairs, overlap, psnr
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
    score = evaluate(deblurrer, find_pairs(folder)).scores[0]
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
    still, score = (evaluate(deblurrer, find_pairs(folder)).scores[i] for i in (1, 0))
    blurred, sharp = load_arrays(folder, "a")
    mask = np.asarray(Image.open(folder / "mask" / "a.png")) > 0
    result = deblurrer(blurred)
    assert score.ssim_before == ssim_map(blurred, sharp)[mask].mean()
    assert score.ssim_after == ssim_map(result.image, sharp)[mask].mean()
    assert score.psnr_whole_before == psnr(blurred, sharp, np.ones_like(mask))
    assert score.psnr_whole_after == psnr(result.image, sharp, np.ones_like(mask))
    assert (still.ssim_before, still.ssim_after) == (None, None)
    assert still.psnr_whole_before == math.inf
    usual = structural_similarity(
        sharp,
        blurred,
        channel_axis=2,
        gaussian_weights=True,
        use_sample_covariance=False,
    )
    assert score.ssim_whole_before == pytest.approx(usual)
    assert still.ssim_whole_before == pytest.approx(1)


def test_what_the_folder_does_not_tell_has_no_score(folder, deblurrer):
    score = evaluate(deblurrer, find_pairs(folder)).scores[0]
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
    score = evaluate(deblurrer, find_pairs(folder)).scores[0]
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
        evaluate(deblurrer, find_pairs(folder))


def test_the_arithmetic_is_stated_where_it_is_known(folder, deblurrer):
    known = Arithmetic.of_manifest(deblurrer.bundle.manifest)
    pairs = find_pairs(folder)
    first, second = evaluate(deblurrer, pairs, arithmetic=known).scores
    cost = deblurrer.bundle.manifest["model"]["flop_per_pixel"]
    dense = cost["mask"] + cost["restore"]
    assert first.flop_share == (cost["mask"] + first.coverage * cost["restore"]) / dense
    summary = evaluate(deblurrer, pairs, arithmetic=known).summary()
    assert summary["flop_share"] == pytest.approx((first.flop_share + second.flop_share) / 2)
    assert evaluate(deblurrer, pairs).summary()["flop_share"] is None


def test_in_a_sharp_photograph_all_that_is_found_is_false(folder, deblurrer):
    path = folder / "sharp" / "a.png"
    evaluation = evaluate(deblurrer, [Pair(name="a", blurred=path, sharp=path)])
    coverage = deblurrer(load_arrays(folder, "a")[1]).coverage
    assert coverage > 0
    assert evaluation.summary()["coverage_unblurred"] == coverage
    assert evaluation.summary()["gain_db"] is None
    assert evaluation.scores[0].ssim_whole_after is None


def test_without_a_mask_the_picture_counts_as_blurred_all_over(folder, deblurrer):
    pair = Pair(name="a", blurred=folder / "blurred/a.png", sharp=folder / "sharp/a.png")
    score = evaluate(deblurrer, [pair]).scores[0]
    assert score.psnr_before == score.psnr_whole_before
    assert score.recall == score.iou


def test_where_nothing_moved_there_is_no_psnr(folder, deblurrer):
    score = evaluate(deblurrer, find_pairs(folder)).scores[1]
    assert (score.psnr_before, score.psnr_after, score.gain) == (None, None, None)


def test_every_picture_is_reported_as_it_is_done(folder, deblurrer):
    reported = []
    evaluation = evaluate(deblurrer, find_pairs(folder), progress=reported.append)
    assert tuple(reported) == evaluation.scores
    assert [score.name for score in reported] == ["a", "b"]


def test_the_report_is_json(folder, deblurrer):
    report = evaluate(deblurrer, find_pairs(folder)).to_json()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["summary"]["pictures"] == 2
    assert [score["name"] for score in report["scores"]] == ["a", "b"]


def test_a_partner_of_another_size_is_a_misuse(folder, deblurrer):
    Image.fromarray(noise(5, 41, 60, 3)).save(folder / "sharp" / "a.png")
    with pytest.raises(UsageError, match=r"uint8\[41, 60, 3\], expected uint8\[40, 60, 3\]"):
        evaluate(deblurrer, find_pairs(folder))
