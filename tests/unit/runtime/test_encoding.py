"""What is written: samples, formats and qualities, judged by readers that share no code with it."""

import dataclasses

import cv2
import numpy as np
import pytest
from pictures import KINDS, independent, joined, noise, pillow, png, put, tiff
from PIL import Image

from m2a.errors import ImageError, UsageError
from m2a.runtime import encoding
from m2a.runtime.images import OUTPUT_SUFFIXES, Photo, check_output, read_photo, write_photo

PHOTO = Photo(pixels=noise(3, 8))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
def test_lossless_formats_keep_every_sample(tmp_path, suffix, bits, kind):
    samples = noise(KINDS[kind], bits)
    data = png(samples) if suffix == ".png" else tiff(samples)
    photo = read_photo(put(tmp_path, f"in{suffix}", data))
    assert photo.bits == bits
    assert photo.pixels.flags.c_contiguous
    assert np.array_equal(joined(photo), samples)
    out = tmp_path / f"out{suffix}"
    write_photo(out, photo, overwrite=False)
    found = independent(out)
    assert found.dtype == samples.dtype
    assert np.array_equal(found, samples)


@pytest.mark.parametrize("kind", ["rgb", "rgb+alpha"])
def test_webp_is_lossless_by_default_also_under_transparent_pixels(tmp_path, kind):
    samples = noise(KINDS[kind], 8)
    photo = read_photo(put(tmp_path, "in.webp", pillow(samples, "WEBP", lossless=True, exact=True)))
    assert np.array_equal(joined(photo), samples)
    write_photo(tmp_path / "out.webp", photo, overwrite=False)
    assert np.array_equal(independent(tmp_path / "out.webp"), samples)


def test_grey_becomes_rgb_in_webp(tmp_path):
    samples = noise(1, 8)
    write_photo(tmp_path / "out.webp", Photo(pixels=samples), overwrite=False)
    assert np.array_equal(independent(tmp_path / "out.webp"), np.repeat(samples, 3, axis=2))


def test_jpeg_default_quality_loses_little_and_no_chroma_resolution(tmp_path):
    photo = Photo(pixels=cv2.GaussianBlur(noise(3, 8, height=64, width=64), (0, 0), 1.5))
    sizes = {}
    for quality in (None, 95, 50):
        path = tmp_path / f"{quality}.jpg"
        write_photo(path, photo, overwrite=False, quality=quality)
        sizes[quality] = path.stat().st_size
    assert sizes[None] == sizes[95] > sizes[50]
    for path in tmp_path.iterdir():
        with Image.open(path) as image:
            assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3
    difference = independent(tmp_path / "None.jpg").astype(int) - photo.pixels
    assert np.abs(difference).max() <= 12  # quality 95: quantisation steps of 1 to 10


def test_webp_quality_makes_it_lossy(tmp_path):
    photo = Photo(pixels=noise(3, 8))
    write_photo(tmp_path / "lossy.webp", photo, overwrite=False, quality=40)
    write_photo(tmp_path / "exact.webp", photo, overwrite=False)
    assert (tmp_path / "lossy.webp").stat().st_size < (tmp_path / "exact.webp").stat().st_size


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_sixteen_bits_become_eight_by_rounding(tmp_path, suffix):
    levels = np.array([0, 128, 129, 257 * 90 - 129, 257 * 90 - 128, 257 * 90 + 128, 65407, 65535])
    expected = np.rint(levels / 257).astype(np.uint8)
    assert expected.tolist() == [0, 0, 1, 89, 90, 90, 255, 255]
    # Blocks of one value, so that JPEG keeps them to its rounding of ±1.
    wide = np.kron(levels.astype(np.uint16), np.ones((16, 16), np.uint16))[:, :, np.newaxis]
    path = tmp_path / f"out{suffix}"
    write_photo(path, Photo(pixels=np.repeat(wide, 3, axis=2)), overwrite=False)
    found = independent(path)[8, 8::16, 0].astype(int)
    assert np.abs(found - expected).max() <= (1 if suffix == ".jpg" else 0)


def test_alpha_is_refused_by_jpeg(tmp_path):
    photo = Photo(pixels=noise(3, 8), alpha=noise(1, 8)[:, :, 0])
    with pytest.raises(UsageError, match=r"alpha.*\.png, \.tif, \.tiff, \.webp"):
        write_photo(tmp_path / "out.jpg", photo, overwrite=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", OUTPUT_SUFFIXES)
def test_the_suffix_names_the_format(tmp_path, suffix):
    write_photo(tmp_path / f"out{suffix.upper()}", PHOTO, overwrite=False)
    with Image.open(tmp_path / f"out{suffix.upper()}") as image:
        names = {"JPEG": (".jpg", ".jpeg"), "TIFF": (".tif", ".tiff")}
        assert suffix in names.get(image.format, (f".{image.format.lower()}",))


def test_replaced_pixels_are_written(tmp_path):
    photo = read_photo(put(tmp_path, "in.png", png(noise(4, 16))))
    changed = dataclasses.replace(photo, pixels=photo.pixels[:, ::-1])  # not contiguous
    write_photo(tmp_path / "out.png", changed, overwrite=False)
    again = read_photo(tmp_path / "out.png")
    assert np.array_equal(again.pixels, photo.pixels[:, ::-1])
    assert np.array_equal(again.alpha, photo.alpha)


def test_encoder_failure_leaves_the_old_file(tmp_path, monkeypatch):
    path = put(tmp_path, "out.png", b"old")
    pyvips = pytest.importorskip("pyvips")

    def fail(self, *args, **kwargs):
        raise pyvips.Error("unable to call pngsave_buffer", "first line\nfirst line\nsecond line\n")

    monkeypatch.setattr(pyvips.Image, "pngsave_buffer", fail, raising=False)
    with pytest.raises(ImageError, match=r"cannot be encoded as PNG: first line; second line"):
        write_photo(path, PHOTO, overwrite=True)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_libvips_without_an_av1_encoder_says_so_before_any_work(tmp_path, monkeypatch):
    pyvips = pytest.importorskip("pyvips")

    def lacking(self, **_):
        raise pyvips.Error("heifsave_buffer", "heifsave: Unsupported compression\n")

    monkeypatch.setattr(pyvips.Image, "heifsave_buffer", lacking, raising=False)
    encoding._writes_avif.cache_clear()
    try:
        with pytest.raises(ImageError, match=r"no AV1 encoder.*pyvips\[binary\]"):
            check_output(tmp_path / "out.avif", overwrite=False)
    finally:
        encoding._writes_avif.cache_clear()
