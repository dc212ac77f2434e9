"""Pairs of ReLoBlur and GoPro in memory, and crops of them."""

from __future__ import annotations

import re

import numpy as np
import pytest
from data_sets import HEIGHT, WIDTH, make_gopro, make_reloblur, noise, raises, save, square

from m2a.errors import ImageError, TrainingError
from m2a.evaluation.datasets import find_gopro, find_reloblur
from m2a.runtime.images import Photo, write_photo
from m2a.training.datasets import PairPixels, draw_pair_crop, read_pair


@pytest.fixture
def reloblur(tmp_path):
    return make_reloblur(tmp_path)


@pytest.fixture
def gopro(tmp_path):
    return make_gopro(tmp_path)


# Reading


def test_a_pair_is_read_as_stored(reloblur):
    pixels = read_pair(find_reloblur(reloblur, split="test")[0])
    assert pixels.name == "scene1/00/00"
    np.testing.assert_array_equal(pixels.blurred, noise(8))
    np.testing.assert_array_equal(pixels.sharp, noise(9))
    np.testing.assert_array_equal(pixels.mask, square() > 0)


def test_gopro_is_masked_all_over(gopro):
    pixels = read_pair(find_gopro(gopro, split="test")[0])
    assert pixels.mask.dtype == np.bool_
    assert pixels.mask.shape == (HEIGHT, WIDTH)
    assert pixels.mask.all()


def test_a_mask_is_true_from_128(reloblur):
    pair = find_reloblur(reloblur, split="test")[0]
    levels = np.zeros((HEIGHT, WIDTH), np.uint8)
    levels[0, :6] = (0, 1, 127, 128, 200, 255)
    save(pair.mask, levels)
    mask = read_pair(pair).mask
    assert mask[0, :6].tolist() == [False, False, False, True, True, True]
    assert not mask[1:].any()


def test_a_mask_without_blur_is_valid(reloblur):
    pair = find_reloblur(reloblur, split="test")[0]
    save(pair.mask, square() * 0)
    assert not read_pair(pair).mask.any()


def test_a_mask_of_0_and_1_is_refused(reloblur):
    pair = find_reloblur(reloblur, split="test")[0]
    save(pair.mask, square() // 255)
    with raises(TrainingError, pair.mask, "no value above 1, expected 0 and 255"):
        read_pair(pair)


def test_pictures_of_unequal_sizes_are_refused(reloblur):
    pair = find_reloblur(reloblur, split="test")[0]
    save(pair.sharp, noise(0)[:-1])
    with raises(TrainingError, pair.sharp, "found 48x31", "expected 48x32", pair.blurred):
        read_pair(pair)


def test_a_mask_of_another_size_is_refused(reloblur):
    pair = find_reloblur(reloblur, split="test")[0]
    save(pair.mask, square()[:, :-1])
    with raises(TrainingError, pair.mask, "47x32", "expected 48x32", "one release"):
        read_pair(pair)


def test_a_grey_picture_is_refused(gopro):
    pair = find_gopro(gopro, split="test")[0]
    save(pair.blurred, square())
    with raises(TrainingError, pair.blurred, "found 1 channels of uint8", "expected 3 of uint8"):
        read_pair(pair)


def test_a_picture_of_16_bits_is_refused(gopro):
    pair = find_gopro(gopro, split="test")[0]
    write_photo(pair.sharp, Photo(pixels=noise(0).astype(np.uint16)), overwrite=True)
    with raises(TrainingError, pair.sharp, "found 3 channels of uint16", "expected 3 of uint8"):
        read_pair(pair)


@pytest.mark.parametrize("role", ["blurred", "sharp", "mask"])
@pytest.mark.parametrize("content", [b"", b"not a picture"])
def test_a_file_that_is_no_picture_is_named(reloblur, role, content):
    pair = find_reloblur(reloblur, split="test")[0]
    path = getattr(pair, role)
    path.write_bytes(content)
    with pytest.raises(ImageError, match=re.escape(str(path))):
        read_pair(pair)


@pytest.mark.parametrize(
    ("role", "array"),
    [
        ("blurred", noise(0)[1:]),
        ("sharp", noise(0).astype(np.float32)),
        ("mask", square()),
    ],
)
def test_pixels_are_checked(role, array):
    arrays = {"blurred": noise(0), "sharp": noise(1), "mask": square() > 0} | {role: array}
    with pytest.raises(ValueError, match="pair a: found"):
        PairPixels(name="a", **arrays)


def test_an_empty_pair_is_refused():
    nothing = np.zeros((0, WIDTH, 3), np.uint8)
    with pytest.raises(ValueError, match="expected a non-empty bool"):
        PairPixels(name="a", blurred=nothing, sharp=nothing, mask=nothing[..., 0] > 0)


# Cropping


def positions():
    """A pair whose pixels tell where they were: red the row, green the column."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.uint8)
    blurred = np.dstack([y, x, y * 0])
    sharp = np.dstack([y, x, y * 0 + 1])
    return blurred, sharp


def pixels(mask):
    blurred, sharp = positions()
    return PairPixels(name="s01/00/00", blurred=blurred, sharp=sharp, mask=mask)


def single(y, x):
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[y, x] = True
    return mask


def corners(pair, size, count, **options):
    rng = np.random.default_rng(0)
    crops = [draw_pair_crop(rng, pair, size, **options) for _ in range(count)]
    return [tuple(int(value) for value in crop.blurred[0, 0, :2]) for crop in crops]


def test_a_crop_is_one_window_of_all_three():
    pair = pixels(square() > 0)
    for seed in range(20):
        crop = draw_pair_crop(np.random.default_rng(seed), pair, 10)
        top, left = crop.blurred[0, 0, :2]
        window = np.s_[top : top + 10, left : left + 10]
        assert crop.name == pair.name
        assert crop.mask.shape == (10, 10)
        np.testing.assert_array_equal(crop.blurred, pair.blurred[window])
        np.testing.assert_array_equal(crop.sharp, pair.sharp[window])
        np.testing.assert_array_equal(crop.mask, pair.mask[window])


def test_crops_depend_on_the_generator_only():
    pair = pixels(square() > 0)
    assert corners(pair, 10, 30) == corners(pair, 10, 30)
    assert len(set(corners(pair, 10, 30))) > 5


@pytest.mark.parametrize(
    ("masked", "corner"),
    [((16, 24), (11, 19)), ((0, 0), (0, 0)), ((31, 47), (22, 38)), ((0, 47), (0, 38))],
)
def test_an_aimed_crop_is_centred_as_far_as_the_border_allows(masked, corner):
    assert set(corners(pixels(single(*masked)), 10, 5, masked_share=1)) == {corner}


@pytest.mark.parametrize("size", [1, 2, 7, HEIGHT])
def test_an_aimed_crop_holds_a_masked_pixel(size):
    for y, x in [(0, 0), (31, 47), (0, 47), (31, 0), (15, 20)]:
        rng = np.random.default_rng(1)
        assert draw_pair_crop(rng, pixels(single(y, x)), size, masked_share=1).mask.any()


def test_half_of_the_crops_are_aimed():
    # One masked pixel in a corner: an even draw of 4x4 crops meets it once in 29·45 = 1305 times.
    rng = np.random.default_rng(2)
    pair = pixels(single(0, 0))
    hits = sum(bool(draw_pair_crop(rng, pair, 4).mask.any()) for _ in range(1000))
    assert 437 < hits < 563  # 500 ± 4 standard deviations of 1000 throws of a coin


@pytest.mark.parametrize("mask", [np.zeros, np.ones])
def test_crops_are_drawn_evenly_where_nothing_or_everything_is_masked(mask):
    # Of 23·39 places, aimed crops of a full mask would take the 4 corners in 100·121/1536 draws.
    drawn = corners(pixels(mask((HEIGHT, WIDTH), np.bool_)), 10, 2000, masked_share=1)
    tops, lefts = np.array(drawn).T
    assert (tops.min(), tops.max(), lefts.min(), lefts.max()) == (0, 22, 0, 38)
    assert np.bincount(tops).max() < 2 * 2000 / 23
    assert np.bincount(lefts).max() < 2 * 2000 / 39


def test_without_aiming_crops_are_drawn_evenly():
    tops, lefts = np.array(corners(pixels(single(0, 0)), 10, 2000, masked_share=0)).T
    assert np.bincount(tops).max() < 2 * 2000 / 23
    assert np.bincount(lefts).max() < 2 * 2000 / 39


def test_a_crop_owns_its_pixels():
    pair = pixels(square() > 0)
    crop = draw_pair_crop(np.random.default_rng(0), pair, HEIGHT)
    for cut, whole in ((crop.blurred, pair.blurred), (crop.sharp, pair.sharp)):
        assert not np.shares_memory(cut, whole)
    assert not np.shares_memory(crop.mask, pair.mask)


@pytest.mark.parametrize("size", [HEIGHT + 1, WIDTH + 1])
def test_a_picture_smaller_than_the_crop_is_refused(size):
    with raises(TrainingError, "pair s01/00/00: found 48x32", f"at least {size}x{size}"):
        draw_pair_crop(np.random.default_rng(0), pixels(square() > 0), size)


@pytest.mark.parametrize(("size", "share"), [(0, 0.5), (8, -0.1), (8, 1.1), (8, float("nan"))])
def test_senseless_crops_are_refused(size, share):
    with pytest.raises(ValueError, match="expected 1 or more and 0 to 1"):
        draw_pair_crop(np.random.default_rng(0), pixels(square() > 0), size, masked_share=share)
