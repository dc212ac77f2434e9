"""Photographs and masks as files: names, places, and when libvips is loaded."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pictures import H, W, noise, png, put
from PIL import Image

from m2a.errors import ImageError, UsageError
from m2a.runtime import images
from m2a.runtime.images import Photo, check_output, read_mask, read_photo, write_mask, write_photo

PHOTO = Photo(pixels=noise(3, 8))


def test_check_output(tmp_path):
    taken = put(tmp_path, "taken.png", b"old")
    check_output(taken, overwrite=True)
    check_output(tmp_path / "new.JPG", overwrite=False, photo=PHOTO, quality=80)
    with pytest.raises(UsageError, match="--overwrite") as caught:
        check_output(taken, overwrite=False)
    assert caught.value.exit_code == 2
    with pytest.raises(UsageError, match=r"'\.gif'.*\.jpg, \.jpeg, \.png, \.tif, \.tiff, \.webp"):
        check_output(tmp_path / "out.gif", overwrite=False)
    with pytest.raises(UsageError, match="suffix ''"):
        check_output(tmp_path / "out", overwrite=False)
    with pytest.raises(UsageError, match=r"expected the folder .*none, found nothing"):
        check_output(tmp_path / "none" / "out.png", overwrite=False)
    with pytest.raises(UsageError, match="found a file there"):
        check_output(taken / "out.png", overwrite=False)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UsageError, match="found a folder"):
        check_output(tmp_path / "folder.png", overwrite=True)
    with pytest.raises(UsageError, match="PNG is lossless"):
        check_output(tmp_path / "out.png", overwrite=False, quality=90)
    for quality in (0, 101):
        with pytest.raises(UsageError, match="1 to 100"):
            check_output(tmp_path / "out.jpg", overwrite=False, quality=quality)
    wide = Photo(pixels=np.zeros((1, 16_384, 1), np.uint8))
    with pytest.raises(UsageError, match="at most 16383"):
        check_output(tmp_path / "out.webp", overwrite=False, photo=wide)
    with pytest.raises(ImageError, match="cannot be written"):
        check_output(tmp_path / ("x" * 300 + ".png"), overwrite=False)
    assert taken.read_bytes() == b"old"


@pytest.mark.parametrize(
    "name", ["a[1].png", "a[Q=1].jpg", "[x=3].webp", "with space.png", "größe 写真.tif", "-o.png"]
)
def test_odd_names(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)  # so that a leading "-" or "[" starts the whole path
    path = Path(name)
    write_photo(path, PHOTO, overwrite=False)
    assert read_photo(path).pixels.shape == (H, W, 3)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_rewritten_file_is_read_anew(tmp_path):
    path = tmp_path / "same.png"
    for seed in range(4):
        photo = Photo(pixels=noise(3, 8, seed=seed))
        write_photo(path, photo, overwrite=True)
        assert np.array_equal(read_photo(path).pixels, photo.pixels)


def test_mask_round_trip(tmp_path):
    mask = noise(1, 8)[:, :, 0] > 100
    write_mask(tmp_path / "m.png", mask, overwrite=False)
    with Image.open(tmp_path / "m.png") as image:
        assert image.mode == "L"
        assert np.array_equal(np.asarray(image), np.where(mask, 255, 0))
    found = read_mask(tmp_path / "m.png", shape=(H, W))
    assert found.dtype == np.bool_
    assert np.array_equal(found, mask)


def test_mask_is_active_above_half_of_the_range(tmp_path):
    grey = np.array([[[0], [127], [128], [255]]], np.uint8)
    wide = np.array([[[0], [32767], [32768], [65535]]], np.uint16)
    rgba = np.concatenate([grey, grey, grey, 255 - grey], axis=2)  # alpha does not count
    ones = np.array([[[0], [0], [1], [1]]], np.uint8)
    for data in (png(grey), png(wide), png(rgba), png(ones, bits=1)):
        found = read_mask(put(tmp_path, "m.png", data), shape=(1, 4))
        assert found.tolist() == [[False, False, True, True]]


def test_mask_refusals(tmp_path):
    path = put(tmp_path, "m.png", png(noise(1, 8)))
    with pytest.raises(UsageError, match=rf"found a mask of {W}x{H} .*expected {H}x{W}"):
        read_mask(path, shape=(W, H))
    with pytest.raises(ImageError, match="no such file"):
        read_mask(tmp_path / "none.png", shape=(H, W))
    mask = np.ones((H, W), np.bool_)
    with pytest.raises(UsageError, match=r"\.png"):
        write_mask(tmp_path / "m.jpg", mask, overwrite=False)
    with pytest.raises(UsageError, match="--overwrite"):
        write_mask(path, mask, overwrite=False)
    with pytest.raises(ValueError, match="expected bool"):
        write_mask(tmp_path / "n.png", mask.astype(np.uint8), overwrite=False)


def test_importing_the_module_does_not_load_libvips():
    script = "import sys, m2a.runtime.images; sys.exit('pyvips' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    assert images.read_photo is read_photo
