"""The quality of JPEG files, told from their tables, and what is written after a lossy source."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from pictures import independent, noise, pillow, put
from PIL import Image

from m2a.runtime.coding import Coding, coding_of_jpeg, coding_of_webp, quality_of
from m2a.runtime.images import Photo, read_photo, write_photo

with Image.open(Path(__file__).parents[3] / "examples" / "shuttle.png") as example:
    PHOTOGRAPH = np.asarray(example.convert("RGB"))[:192, :256]

SMOOTH = cv2.GaussianBlur(noise(3, 8, height=64, width=96), (0, 0), 1.5)


@pytest.mark.parametrize("kind", ["grey", "4:4:4", "4:2:0", "progressive"])
def test_every_quality_of_libjpeg_is_found_again(kind):
    options = {"grey": {}, "4:4:4": {"subsampling": 0}, "4:2:0": {"subsampling": 2}}
    samples = noise(1 if kind == "grey" else 3, 8, height=16, width=16)
    subsampled = kind in ("4:2:0", "progressive")  # Pillow's default is 4:2:0
    for quality in range(1, 101):
        more = options.get(kind, {"progressive": True})
        data = pillow(samples, "JPEG", quality=quality, **more)
        assert coding_of_jpeg(data) == Coding(quality=quality, subsampled=subsampled)


def test_chroma_halved_in_one_direction_is_written_whole(tmp_path):
    """libvips writes 4:2:0 or 4:4:4: of 4:2:2 the former would lose chroma."""
    photo = read_photo(put(tmp_path, "in.jpg", pillow(SMOOTH, "JPEG", subsampling=1)))
    write_photo(tmp_path / "out.jpg", photo, overwrite=False)
    with Image.open(tmp_path / "out.jpg") as image:
        assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3


def with_tables(steps):
    """A JPEG file with tables of one step each, as no libjpeg quality makes them."""
    stream = io.BytesIO()
    Image.fromarray(SMOOTH).save(stream, "JPEG", qtables=[[s] * 64 for s in steps])
    return stream.getvalue()


def test_a_cameras_own_tables_get_the_next_finer_quality():
    coding = coding_of_jpeg(with_tables((7, 9)))
    total = 64 * (7 + 9)

    def steps_of(quality):
        tables = Image.open(io.BytesIO(pillow(SMOOTH, "JPEG", quality=quality))).quantization
        return sum(map(sum, tables.values()))

    assert steps_of(coding.quality) <= total < steps_of(coding.quality - 1)


def test_the_finest_tables_are_quality_100_and_finer_than_that_too():
    assert coding_of_jpeg(with_tables((1, 1))).quality == 100
    assert quality_of([np.zeros(64, np.uint16)]) == 100


@pytest.mark.parametrize("data", [b"\xff\xd8\xff", b"\xff\xd8\xff\xdb\x00\x02", b"\xff\xd8" * 9])
def test_headers_that_hold_nothing_tell_nothing(data):
    assert coding_of_jpeg(data) is None


def test_damaged_headers_tell_nothing_and_raise_nothing():
    data = pillow(SMOOTH, "JPEG")
    for place in range(0, 700):
        coding_of_jpeg(data[:place])
        coding_of_jpeg(data[:place] + b"\xff" + data[place + 1 :])


def test_lossy_webp_is_told_from_lossless():
    assert coding_of_webp(pillow(SMOOTH, "WEBP", quality=80)) == Coding(subsampled=True)
    assert coding_of_webp(pillow(SMOOTH, "WEBP", lossless=True)) is None
    extended = pillow(SMOOTH, "WEBP", quality=80, icc_profile=b"p" * 131)
    assert extended[12:16] == b"VP8X"
    assert coding_of_webp(extended) is not None
    assert coding_of_webp(b"RIFF") is None


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("quality", [30, 75, 92])
def test_jpeg_follows_its_source(tmp_path, quality, subsampling):
    data = pillow(PHOTOGRAPH, "JPEG", quality=quality, subsampling=subsampling)
    photo = read_photo(put(tmp_path, "in.jpg", data))
    write_photo(tmp_path / "out.jpg", photo, overwrite=False)
    written = (tmp_path / "out.jpg").read_bytes()
    assert coding_of_jpeg(written) == Coding(quality=quality, subsampled=subsampling == 2)
    # Equal tables give nearly equal coefficients: what is lost is rounding to 8 bits, and chroma
    # that is interpolated and halved again.
    assert abs(len(written) / len(data) - 1) < 0.05
    assert psnr(independent(tmp_path / "out.jpg"), photo.pixels) > 47


def test_unless_told(tmp_path):
    photo = read_photo(put(tmp_path, "in.jpg", pillow(SMOOTH, "JPEG", quality=75)))
    write_photo(tmp_path / "out.jpg", photo, overwrite=False, quality=88)
    written = (tmp_path / "out.jpg").read_bytes()
    assert coding_of_jpeg(written) == Coding(quality=88, subsampled=True)


@pytest.mark.parametrize("fmt", ["PNG", "WEBP", "TIFF"])
def test_a_source_of_another_format_gives_95_and_all_chroma(tmp_path, fmt):
    photo = read_photo(put(tmp_path, "in", pillow(SMOOTH, fmt)))
    write_photo(tmp_path / "out.jpg", photo, overwrite=False)
    written = (tmp_path / "out.jpg").read_bytes()
    assert coding_of_jpeg(written) == Coding(quality=95, subsampled=False)


@pytest.mark.parametrize(("fmt", "suffix"), [("WEBP", ".webp"), ("AVIF", ".avif")])
def test_webp_and_avif_are_lossy_after_a_lossy_source_alone(tmp_path, fmt, suffix):
    lossy = read_photo(put(tmp_path, "in", pillow(SMOOTH, fmt, quality=70)))
    write_photo(tmp_path / f"lossy{suffix}", lossy, overwrite=False)
    other = Photo(pixels=lossy.pixels)
    write_photo(tmp_path / f"exact{suffix}", other, overwrite=False)
    assert np.array_equal(independent(tmp_path / f"exact{suffix}"), lossy.pixels)
    assert not np.array_equal(independent(tmp_path / f"lossy{suffix}"), lossy.pixels)
    assert psnr(independent(tmp_path / f"lossy{suffix}"), lossy.pixels) > 38


class TestAvif:
    @pytest.mark.parametrize("alpha", [False, True])
    @pytest.mark.parametrize("bits", [10, 12])
    def test_its_bits_are_kept(self, tmp_path, bits, alpha):
        samples = noise(4 if alpha else 3, 16) >> (16 - bits) << (16 - bits)
        path = tmp_path / "in.avif"
        exact = Photo(
            pixels=np.ascontiguousarray(samples[:, :, :3]),
            alpha=np.ascontiguousarray(samples[:, :, 3]) if alpha else None,
            format="AVIF/HEIF",
            coding=Coding(bits=bits),
        )
        write_photo(path, exact, overwrite=False, quality=100)
        photo = read_photo(path)
        assert photo.coding == Coding(bits=bits)
        write_photo(tmp_path / "out.avif", photo, overwrite=False)
        assert read_photo(tmp_path / "out.avif").coding == Coding(bits=bits)

    def test_sixteen_bits_become_twelve_by_rounding(self, tmp_path):
        samples = noise(3, 16)
        samples[0, :3, 0] = (0, 7, 65535)
        write_photo(tmp_path / "out.avif", Photo(pixels=samples), overwrite=False)
        found = read_photo(tmp_path / "out.avif")
        expected = np.minimum((samples.astype(int) + 8) // 16, 4095) * 16
        assert np.array_equal(found.pixels, expected)
        # Pillow reads the upper 8 of the 12 bits.
        assert np.abs(independent(tmp_path / "out.avif").astype(int) - samples // 257).max() <= 1

    def test_grey_becomes_rgb(self, tmp_path):
        samples = noise(1, 8)
        write_photo(tmp_path / "out.avif", Photo(pixels=samples), overwrite=False)
        assert np.array_equal(independent(tmp_path / "out.avif"), np.repeat(samples, 3, axis=2))
