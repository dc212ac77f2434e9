"""The pictures to look at, judged by their pixels."""

from __future__ import annotations

import numpy as np
import pytest

from m2a.runtime.drawing import compare_picture, motion_picture
from m2a.runtime.photo import Photo

GREY = 128


def plain(height=96, width=96, channels=3, dtype=np.uint8) -> Photo:
    value = GREY * (257 if dtype == np.uint16 else 1)
    return Photo(pixels=np.full((height, width, channels), value, dtype))


def still(height=96, width=96) -> np.ndarray:
    return np.full((height // 4, width // 4, 4), np.nan, np.float32)


def touched(picture: Photo) -> np.ndarray:
    return (picture.pixels != GREY).any(axis=2)


def yellow(picture: Photo) -> np.ndarray:
    return (picture.pixels.astype(int) @ [1, 1, -2]) > 150


class TestMotion:
    def test_a_straight_trajectory_is_a_line_through_its_cell_to_scale(self):
        motion = still()
        motion[12, 12] = (20, 0, 0, 0)
        y, x = np.nonzero(yellow(motion_picture(plain(), motion)))
        assert set(y) <= {49, 50}  # the cell's middle is (49.5, 49.5)
        assert x.min() == pytest.approx(29.5, abs=1)
        assert x.max() == pytest.approx(69.5, abs=1)

    def test_a_bent_one_goes_where_the_formula_says(self):
        motion = still()
        motion[12, 12] = (20, 0, 0, 16)
        drawn = yellow(motion_picture(plain(), motion))
        for t in (-1, -0.5, 0, 0.5, 1):
            x, y = 49.5 + 20 * t, 49.5 + 16 * t * t
            assert drawn[int(y) : int(y) + 2, int(x) : int(x) + 2].any(), t
        assert not drawn[:48].any()

    def test_only_near_the_curve_anything_changes(self):
        motion = still()
        motion[12, 12] = (20, 0, 0, 0)
        rows = np.nonzero(touched(motion_picture(plain(), motion)).any(axis=1))[0]
        assert rows.min() >= 46
        assert rows.max() <= 53

    def test_edges_are_smooth(self):
        motion = still()
        motion[12, 12] = (20, 7, 0, 0)
        values = np.unique(motion_picture(plain(), motion).pixels)
        assert len(values) > 20

    def test_without_motion_it_is_the_photo(self):
        assert not touched(motion_picture(plain(), still())).any()

    def test_a_trajectory_that_leaves_the_photo_is_cut_off(self):
        motion = still()
        motion[0, 0] = (-40, -40, 10, 10)
        motion[23, 23] = (48, 0, 0, 0)
        assert touched(motion_picture(plain(90, 93), motion)).any()

    def test_a_still_cell_is_a_dot(self):
        motion = still()
        motion[12, 12] = 0
        assert 1 <= yellow(motion_picture(plain(), motion)).sum() <= 9

    def test_of_each_square_one_is_drawn_that_nearest_to_the_middle(self):
        motion = still()
        motion[:, :12] = (0, 0, 0, 0)
        motion[0, 23] = (0, 0, 0, 0)  # alone in its square, in a corner
        picture = motion_picture(plain(), motion)
        dots = yellow(picture)
        squares = dots.reshape(4, 24, 4, 24).any(axis=(1, 3))
        expected = np.zeros((4, 4), bool)
        expected[:, :2] = True
        expected[0, 3] = True
        np.testing.assert_array_equal(squares, expected)
        assert not dots[:6, :48].any()

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_every_photo_becomes_8_bit_rgb(self, channels, dtype):
        motion = still()
        motion[12, 12] = (20, 0, 0, 0)
        picture = motion_picture(plain(channels=channels, dtype=dtype), motion)
        assert picture.pixels.dtype == np.uint8
        np.testing.assert_array_equal(picture.pixels, motion_picture(plain(), motion).pixels)

    def test_a_grey_profile_does_not_describe_rgb(self):
        grey = Photo(pixels=plain(channels=1).pixels, icc_profile=b"grey")
        rgb = Photo(pixels=plain().pixels, icc_profile=b"rgb")
        assert motion_picture(grey, still()).icc_profile is None
        assert motion_picture(rgb, still()).icc_profile == b"rgb"

    def test_a_large_photo_gets_fewer_and_wider_strokes(self):
        motion = still(4800, 4800)
        motion[600, 600] = (0, 0, 0, 0)
        motion[600, 605] = (0, 0, 0, 0)  # in the same square of 100 pixels
        picture = motion_picture(plain(4800, 4800), motion)
        y, x = np.nonzero(yellow(picture))
        assert 5 <= y.max() - y.min() <= 9
        assert 5 <= x.max() - x.min() <= 9


class TestCompare:
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_before_divider_after(self, channels, dtype):
        before = plain(10, 20, channels, dtype)
        after = before.pixels + 1
        picture = compare_picture(before, after)
        assert picture.pixels.dtype == dtype
        np.testing.assert_array_equal(picture.pixels[:, :20], before.pixels)
        np.testing.assert_array_equal(picture.pixels[:, -20:], after)
        divider = picture.pixels[:, 20:-20]
        assert divider.min() == 0
        assert divider.max() == np.iinfo(dtype).max
        assert divider.shape == (10, 6, channels)

    def test_alpha_is_kept_and_the_divider_opaque(self):
        alpha = np.arange(200, dtype=np.uint8).reshape(10, 20)
        before = Photo(pixels=plain(10, 20).pixels, alpha=alpha)
        picture = compare_picture(before, before.pixels)
        np.testing.assert_array_equal(picture.alpha[:, :20], alpha)
        np.testing.assert_array_equal(picture.alpha[:, -20:], alpha)
        assert (picture.alpha[:, 20:-20] == 255).all()

    def test_the_profile_is_kept_and_the_metadata_is_not(self):
        before = Photo(pixels=plain().pixels, icc_profile=b"icc", metadata={"exif-data": b"gps"})
        picture = compare_picture(before, before.pixels)
        assert picture.icc_profile == b"icc"
        assert not picture.metadata
