"""Metrics on cases whose answer is known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from m2a.evaluation import overlap, psnr
from m2a.evaluation.metrics import angle_errors, ssim_map

ALL = np.ones((2, 2), bool)


def grey(dtype, value):
    return np.full((2, 2, 3), value, dtype)


def test_equal_pictures_have_an_infinite_psnr():
    assert psnr(grey(np.uint8, 7), grey(np.uint8, 7), ALL) == math.inf


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535)])
def test_black_for_white_is_0_db(dtype, white):
    assert psnr(grey(dtype, 0), grey(dtype, white), ALL) == pytest.approx(0)


def test_an_error_of_a_tenth_of_white_is_20_db():
    assert psnr(grey(np.uint16, 0), grey(np.uint16, 6553.5 // 1), ALL) == pytest.approx(
        20, abs=0.001
    )


def test_one_of_three_channels_off_is_a_third_of_the_error():
    picture, truth = grey(np.uint8, 100), grey(np.uint8, 100)
    picture[..., 1] = 110
    assert psnr(picture, truth, ALL) == pytest.approx(10 * math.log10(255**2 / (100 / 3)))


def test_the_sign_of_an_error_does_not_matter():
    low, high = grey(np.uint8, 100), grey(np.uint8, 110)
    assert psnr(low, high, ALL) == psnr(high, low, ALL)


def test_pixels_outside_the_mask_do_not_count():
    picture, truth = grey(np.uint8, 100), grey(np.uint8, 100)
    picture[0, 0] = 255
    inside = ALL.copy()
    inside[0, 0] = False
    assert psnr(picture, truth, inside) == math.inf


def test_an_empty_mask_has_no_psnr():
    with pytest.raises(ValueError, match="empty mask"):
        psnr(grey(np.uint8, 0), grey(np.uint8, 0), ~ALL)


def test_a_mean_over_the_mask_is_what_reloblur_weights_by_it():
    """Li et al.: sum of squared error times weight, over three times the sum of weights."""
    rng = np.random.default_rng(0)
    picture, truth = rng.integers(0, 256, (2, 20, 30, 3)).astype(np.uint8)
    mask = rng.random((20, 30)) < 0.3
    unit = (picture.astype(float) - truth) / 255
    error = (unit**2 * mask[..., None]).sum() / mask.sum() / 3
    assert psnr(picture, truth, mask) == pytest.approx(10 * math.log10(1 / error))


def test_overlap_counts_pixels():
    predicted = np.array([[1, 1, 1, 0, 0, 0]], bool)
    true = np.array([[0, 0, 1, 1, 0, 0]], bool)
    found = overlap(predicted, true)
    assert (found.both, found.predicted, found.true) == (1, 3, 2)
    assert found.iou == pytest.approx(1 / 4)
    assert found.precision == pytest.approx(1 / 3)
    assert found.recall == pytest.approx(1 / 2)


def test_two_empty_masks_agree():
    found = overlap(~ALL, ~ALL)
    assert (found.iou, found.precision, found.recall) == (1, 1, 1)


def test_a_false_alarm_costs_precision_and_a_miss_recall():
    alarm, miss = overlap(ALL, ~ALL), overlap(~ALL, ALL)
    assert (alarm.iou, alarm.precision, alarm.recall) == (0, 0, 1)
    assert (miss.iou, miss.precision, miss.recall) == (0, 1, 0)


def flat(value, *shape):
    return np.full((*shape, 3), value, np.uint8)


def test_ssim_of_flat_pictures_is_that_of_their_means():
    """Wang et al. 2004, equation 6, with c1 = (0.01 · 255)²; without structure the rest is 1."""
    c1 = (0.01 * 255) ** 2
    similarity = ssim_map(flat(100, 20, 24), flat(120, 20, 24))
    assert similarity.shape == (20, 24)
    assert similarity == pytest.approx((2 * 100 * 120 + c1) / (100**2 + 120**2 + c1), abs=1e-6)


def test_ssim_of_equal_pictures_is_one_and_changes_only_near_a_change():
    truth = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    changed = truth.copy()
    changed[10:14, 10:14] = 255 - changed[10:14, 10:14]
    assert ssim_map(truth, truth) == pytest.approx(1)
    similarity = ssim_map(changed, truth)
    assert similarity[11, 11] < 0.5
    assert similarity[25:, 25:] == pytest.approx(1)


def test_ssim_does_not_depend_on_the_bit_depth():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (2, 20, 20, 3)).astype(np.uint8)
    wide = pictures.astype(np.uint16) * 257
    assert ssim_map(*wide) == pytest.approx(ssim_map(*pictures), abs=1e-6)


def test_a_picture_smaller_than_the_window_has_no_ssim():
    with pytest.raises(ValueError, match="at least 11"):
        ssim_map(flat(1, 10, 30), flat(1, 10, 30))


def motions(*vectors):
    return np.array([[*vector, 0, 0] for vector in vectors], np.float32)


@pytest.mark.parametrize(
    ("predicted", "true", "degrees"),
    [
        ((3, 0), (5, 0), 0),
        ((-3, 0), (5, 0), 0),  # the reverse blurs alike
        ((1, 1), (5, 0), 45),
        ((-1, 1), (0, -2), 45),
        ((0, 1), (5, 0), 90),
        ((0, 0), (5, 0), 90),  # stands still
    ],
)
def test_angles_are_taken_modulo_a_half_turn(predicted, true, degrees):
    assert angle_errors(motions(predicted), motions(true)) == pytest.approx([degrees], abs=1e-4)


def test_only_cells_that_were_restored_and_truly_moved_have_an_angle():
    nan = float("nan")
    predicted = motions((1, 0), (nan, nan), (1, 0), (1, 0))
    true = motions((2, 0), (2, 0), (nan, nan), (0.5, 0.5))
    assert angle_errors(predicted, true) == pytest.approx([0])
