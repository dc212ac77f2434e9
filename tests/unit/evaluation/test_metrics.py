"""Metrics on cases whose answer is known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from m2a.evaluation import overlap, psnr

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
