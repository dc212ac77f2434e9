"""The pictures on the page, read back by Pillow."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageCms
from report_pages import BLUE, RED, deblurred

from m2a.reports.layers import EDGE, SHADE, THUMBNAIL, draw_layers
from m2a.runtime.photo import Photo

LOSS = 8
"""Levels by which WebP at quality 90 may miss a plain colour: its luma and chroma are rounded."""


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    assert image.format == "WEBP"
    return image


def drawn(size=(64, 96), *, longest=2000, **fields):
    pixels = np.full((*size, 3), RED, np.uint8)
    mask = np.zeros(size, bool)
    mask[size[0] // 4 : size[0] // 2, size[1] // 2 :] = True
    photo = Photo(pixels=pixels, **fields)
    return draw_layers(photo, deblurred(pixels, mask), longest=longest), mask


def near(pixels: np.ndarray, colour) -> bool:
    return bool((np.abs(pixels.astype(int) - colour) <= LOSS).all())


def test_before_is_the_photo_and_after_only_what_was_restored():
    layers, mask = drawn()
    assert layers.size == (96, 64)
    assert near(np.asarray(opened(layers.before)), RED)
    after = np.asarray(opened(layers.after))
    np.testing.assert_array_equal(after[:, :, 3], np.where(mask, 255, 0))
    inside = np.zeros_like(mask)
    inside[20:28, 56:] = True  # away from the mask's edge, where WebP smears
    assert near(after[inside][:, :3], BLUE)


def test_the_mask_layer_shades_what_was_not_restored_and_draws_a_line_around_what_was():
    layers, mask = drawn()
    picture = np.asarray(opened(layers.mask))
    assert (picture[mask][:, 3] == 0).all()
    line = (picture[:, :, 3] == 255) & (picture[:, :, :3] == EDGE).all(axis=2)
    assert line[15, 47:].all()  # the row above the mask
    assert not (line & mask).any()
    assert (picture[~mask & ~line] == (0, 0, 0, SHADE)).all()


def test_a_large_photo_is_scaled_down_and_all_its_pictures_alike():
    layers, mask = drawn((256, 384), longest=96)
    assert layers.size == (96, 64)
    for data in (layers.before, layers.after, layers.mask):
        assert opened(data).size == (96, 64)
    alpha = np.asarray(opened(layers.after))[:, :, 3]
    # A page's pixel is restored if any of its 4×4 is.
    assert (alpha[mask.reshape(64, 4, 96, 4).any(axis=(1, 3))] == 255).all()
    assert set(np.unique(alpha)) == {0, 255}


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_odd_sizes_work(size):
    layers, _ = drawn(size, longest=100)
    assert max(layers.size) == min(100, max(size))
    assert min(layers.size) == 1
    assert opened(layers.thumbnail).size[0] <= THUMBNAIL


def test_16_bits_and_grey_look_alike_on_the_page():
    mask = np.ones((20, 20), bool)
    grey = np.full((20, 20, 1), 128 * 257, np.uint16)
    result = deblurred(grey, mask, colour=64 * 257)
    layers = draw_layers(Photo(pixels=grey, icc_profile=b"a grey profile"), result)
    before = opened(layers.before)
    assert near(np.asarray(before), (128,) * 3)
    assert near(np.asarray(opened(layers.after))[:, :, :3], (64,) * 3)
    assert "icc_profile" not in before.info  # it does not describe RGB


def test_what_is_transparent_lies_on_white():
    alpha = np.zeros((64, 96), np.uint8)
    alpha[:, 48:] = 255
    layers, _ = drawn(alpha=alpha)
    before = np.asarray(opened(layers.before))
    assert near(before[:, :40], (255,) * 3)
    assert near(before[:, 56:], RED)


def test_the_colour_profile_is_kept_and_the_metadata_is_not():
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    secret = Image.Exif()
    secret[0x010E] = "at home"
    layers, _ = drawn(icc_profile=icc, metadata={"exif-data": secret.tobytes()})
    for data in (layers.before, layers.after, layers.thumbnail):
        assert opened(data).info["icc_profile"] == icc
        assert b"at home" not in data
        assert not opened(data).getexif()


def test_the_centre_is_that_of_the_restored_pixels():
    layers, _ = drawn()
    assert layers.centre == pytest.approx((0.75, 0.375))
    pixels = np.full((8, 8, 3), RED, np.uint8)
    nothing = deblurred(pixels, np.zeros((8, 8), bool))
    empty = draw_layers(Photo(pixels=pixels), replace(nothing, coverage=0.0))
    assert empty.centre == (0.5, 0.5)
    assert (np.asarray(opened(empty.after))[:, :, 3] == 0).all()
