"""Pixels: to float RGB and exactly back."""

from __future__ import annotations

import numpy as np
import pytest

from m2a.errors import ImageError
from m2a.runtime.pixels import check_pixels

DTYPES = (np.uint8, np.uint16, np.float32, np.float64)


def picture(dtype, *shape):
    values = np.random.default_rng(0).random(shape)
    if np.dtype(dtype).kind == "f":
        return values.astype(dtype)
    return np.rint(values * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize(
    ("shape", "channels"),
    [((3, 5), 1), ((3, 5, 1), 1), ((3, 5, 2), 1), ((3, 5, 3), 3), ((3, 5, 4), 3)],
)
def test_alpha_is_no_colour(shape, channels):
    colour = check_pixels(picture(np.uint8, *shape))
    assert (colour.height, colour.width, colour.channels) == (3, 5, channels)
    assert colour.to_float().shape == (3, 5, 3)


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
def test_white_is_one_and_black_is_zero(dtype, white):
    colour = check_pixels(np.array([[0, white]], dtype))
    assert colour.to_float().tolist() == [[[0, 0, 0], [1, 1, 1]]]
    assert colour.to_float().dtype == np.float32


def test_grey_is_repeated_and_colour_keeps_its_order():
    grey = check_pixels(np.array([[51]], np.uint8)).to_float()
    assert grey.tolist() == [[[np.float32(0.2)] * 3]]
    rgba = check_pixels(np.array([[[0, 51, 255, 9]]], np.uint8)).to_float()
    assert rgba.tolist() == [[[0, np.float32(0.2), 1]]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 1), (6, 7, 2), (6, 7, 3), (6, 7, 4)])
def test_a_zero_residual_changes_nothing(dtype, shape):
    source = picture(dtype, *shape)
    colour = check_pixels(source)
    out = colour.with_residual(np.ones((6, 7), bool), np.zeros((42, 3), np.float32))
    assert out.dtype == source.dtype
    if dtype == np.float64:  # the network computes in float32
        assert np.abs(out - source).max() <= 2**-24
    else:
        assert np.array_equal(out, source)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 2), (6, 7, 3), (6, 7, 4)])
def test_only_the_colour_of_active_pixels_changes(dtype, shape):
    source = picture(dtype, *shape)
    before = source.copy()
    mask = np.random.default_rng(1).random((6, 7)) < 0.5
    residual = np.full((mask.sum(), 3), 0.25, np.float32)
    colour = check_pixels(source)
    out = colour.with_residual(mask, residual)
    assert np.array_equal(source, before)
    assert np.array_equal(out[~mask], source[~mask])
    flat = out.reshape(6, 7, -1)
    original = source.reshape(6, 7, -1)
    assert np.array_equal(flat[..., colour.channels :], original[..., colour.channels :])
    changed = flat[mask][:, : colour.channels].astype(np.float64) / colour.scale
    wanted = original[mask][:, : colour.channels].astype(np.float64) / colour.scale + 0.25
    # Half a level of rounding, and float32 in between.
    level = 0 if np.dtype(dtype).kind == "f" else 0.5 / colour.scale
    assert np.abs(changed - np.minimum(wanted, 1)).max() <= level + 1e-6


def test_integers_are_rounded_to_nearest():
    source = np.full((1, 4, 3), 100, np.uint8)
    steps = np.array([0.4, 0.6, -0.4, -0.6], np.float32) / 255
    out = check_pixels(source).with_residual(
        np.ones((1, 4), bool), np.repeat(steps[:, None], 3, axis=1)
    )
    assert out[0, :, 0].tolist() == [100, 101, 100, 99]


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
def test_the_result_is_clipped_to_the_range(dtype, white):
    source = np.array([[0, white]], dtype)
    residual = np.array([[-2.0] * 3, [2.0] * 3], np.float32)
    out = check_pixels(source).with_residual(np.ones((1, 2), bool), residual)
    assert out.tolist() == [[0, white]]


def test_grey_takes_the_mean_of_the_residual():
    source = np.array([[100]], np.uint8)
    residual = np.array([[3, 0, 9]], np.float32) / 255
    assert check_pixels(source).with_residual(np.ones((1, 1), bool), residual).item() == 104


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(5, np.uint8),
        np.zeros((2, 3, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0), np.uint8),
        np.zeros((4, 4, 0), np.uint8),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros((4, 4, 3), np.int32),
        np.zeros((4, 4, 3), bool),
        np.zeros((4, 4, 3), complex),
        np.array([["a"]]),
    ],
)
def test_what_is_no_picture_is_refused_with_what_was_found(array):
    with pytest.raises(ImageError, match="found an array of") as caught:
        check_pixels(array)
    assert str(list(array.shape)) in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.01, 1.01, 255.0])
def test_floats_out_of_range_are_refused(value):
    array = np.full((4, 4, 3), 0.5, np.float32)
    array[1, 2, 0] = value
    with pytest.raises(ImageError, match="floating-point values"):
        check_pixels(array)
