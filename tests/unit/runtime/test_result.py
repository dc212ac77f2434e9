"""What a call returns, shown in one line and written as `m2a run` writes it."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from pictures import noise, pillow
from PIL import Image

import m2a
from m2a.errors import UsageError


@pytest.fixture(scope="module")
def deblurrer(tiny_bundle):
    return m2a.load(tiny_bundle)


@pytest.fixture
def mask():
    mask = np.zeros((40, 50), bool)
    mask[:20] = True
    return mask


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    Image.fromarray(pixels).save(tmp_path / "in.png", exif=exif, dpi=(300, 300))
    return tmp_path / "in.png"


def test_it_is_shown_in_one_line(deblurrer, photo, mask):
    shown = repr(deblurrer(photo, mask=mask))
    assert re.fullmatch(r"<Result 50x40, 50\.0% restored on ort-cpu in \d+\.\d\d s>", shown)


@pytest.mark.parametrize("convert", [str, lambda path: path])
def test_a_photo_is_saved_with_what_its_file_had(deblurrer, photo, mask, convert):
    out = photo.with_name("out.png")
    result = deblurrer(convert(photo), mask=mask)
    result.save(convert(out))
    with Image.open(out) as saved:
        assert np.array_equal(np.asarray(saved), result.image)
        assert saved.getexif()[0x010F] == "Maker"
        assert saved.info["dpi"] == pytest.approx((300, 300), rel=1e-3)
    result.save(out, overwrite=True, strip_metadata=True)
    with Image.open(out) as saved:
        assert 0x010F not in saved.getexif()


@pytest.mark.parametrize("height", [39, 20, 4])
def test_a_part_of_what_was_not_restored_is_saved(deblurrer, photo, height):
    Image.open(photo).convert("RGB").save(photo.with_name("in.jpg"))
    result = deblurrer(photo.with_name("in.jpg"), mask=np.zeros((40, 50), bool))
    part = replace(
        result,
        photo=replace(result.photo, pixels=result.photo.pixels[:height]),
        mask=result.mask[:height],
    )
    part.save(photo.with_name("part.jpg"))
    with Image.open(photo.with_name("part.jpg")) as saved:
        assert saved.size == (50, height)


def test_nothing_is_replaced_unasked_but_the_source_if_asked(deblurrer, photo, mask):
    result = deblurrer(photo, mask=mask)
    with pytest.raises(UsageError, match="give --overwrite"):
        result.save(photo)
    result.save(photo, overwrite=True)
    with Image.open(photo) as saved:
        assert np.array_equal(np.asarray(saved), result.image)


@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 1), (40, 50, 2), (40, 50, 3), (40, 50, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_array_is_saved_as_it_is(deblurrer, tmp_path, mask, shape, dtype):
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype)
    result = deblurrer(image, mask=mask)
    result.save(tmp_path / "out.png")
    again = deblurrer(tmp_path / "out.png", mask=~mask & mask)
    assert np.array_equal(again.image.squeeze(), result.image.squeeze())


def test_quality_is_the_encoders(deblurrer, photo, mask):
    result = deblurrer(photo, mask=mask)
    result.save(photo.with_name("high.jpg"), quality=95)
    result.save(photo.with_name("low.jpg"), quality=30)
    assert photo.with_name("low.jpg").stat().st_size < photo.with_name("high.jpg").stat().st_size


def test_floating_point_has_no_depth_in_a_file(deblurrer, tmp_path, mask):
    result = deblurrer(np.zeros((40, 50, 3), np.float32), mask=mask)
    with pytest.raises(UsageError, match="float32, expected uint8 or uint16"):
        result.save(tmp_path / "out.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format_", ["JPEG", "WebP"])
def test_a_lossy_file_of_which_nothing_is_restored_is_copied(deblurrer, tmp_path, mask, format_):
    """As `m2a run` does, unless something else is asked for or the caller changed a pixel."""
    source = tmp_path / f"in.{format_.lower()}"
    source.write_bytes(pillow(noise(3, 8, height=40, width=50), format_, quality=60))
    out = source.with_name(f"out{source.suffix}")
    result = deblurrer(source, mask=np.zeros_like(mask))
    result.save(out)
    assert out.read_bytes() == source.read_bytes()
    result.save(out, overwrite=True, quality=30)
    assert len(out.read_bytes()) < len(source.read_bytes())
    result.image[:] = 0
    result.save(out, overwrite=True)
    with Image.open(out) as saved:
        assert np.asarray(saved).max() < 8
