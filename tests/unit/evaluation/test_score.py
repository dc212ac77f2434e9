"""Means over scores whose answer is known by hand."""

from __future__ import annotations

import json
import math

import pytest
from scores import score_of

from m2a.evaluation import Arithmetic, Evaluation


def test_the_summary_averages_blurred_and_still_pictures_apart():
    summary = Evaluation(
        scores=(
            score_of(psnr_after=22.0, iou=0.4),
            score_of(name="worse", psnr_after=19.0, iou=0.8),
            score_of(psnr_before=None, psnr_after=None, iou=0.0, coverage=0.05),
        )
    ).summary()
    assert (summary["pictures"], summary["blurred"]) == (3, 2)
    assert summary["gain_db"] == pytest.approx(0.5)
    assert summary["gain_db_worst"] == pytest.approx(-1)
    assert summary["worst"] == "worse"
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


def test_a_loss_of_a_tenth_of_a_decibel_is_the_limit():
    gains = (-0.2, -0.11, -0.09, 0.0)
    scores = tuple(score_of(psnr_after=20 + gain) for gain in gains)
    assert Evaluation(scores=scores).summary()["share_below_minus_0.1_db"] == 0.5


def test_the_order_is_from_the_worst_gain_to_the_largest_false_alarm():
    still = {"psnr_before": None, "psnr_after": None}
    scores = (
        score_of(name="quiet", coverage=0.0, **still),
        score_of(name="best", psnr_after=25.0),
        score_of(name="alarm", coverage=0.3, **still),
        score_of(name="worst", psnr_after=19.0),
    )
    ordered = Evaluation(scores=scores).by_gain()
    assert [score.name for score in ordered] == ["worst", "best", "alarm", "quiet"]


@pytest.mark.parametrize(("coverage", "share"), [(0, 0.1), (0.5, 0.55), (1, 1)])
def test_the_share_of_the_dense_arithmetic_follows_the_coverage(coverage, share):
    assert Arithmetic(mask=1000, restore=9000).share_at(coverage) == pytest.approx(share)


def test_every_turn_of_an_ensemble_costs_once_more():
    ensemble = Arithmetic(mask=1000, restore=9000, mask_passes=2, restore_passes=4)
    assert ensemble.share_at(0.5) == pytest.approx((2 * 1000 + 4 * 4500) / 10000)


@pytest.mark.parametrize("model", [None, {}, {"flop_per_pixel": {"mask": 1}}])
def test_a_bundle_that_does_not_tell_its_cost_has_no_share(model):
    assert Arithmetic.of_manifest({"model": model}) is None
