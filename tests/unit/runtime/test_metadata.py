"""Orientation is applied and reset; profile, EXIF, XMP and resolution are carried along."""

import struct

import numpy as np
import pytest
from pictures import ORIENTATION, noise, pillow, put
from PIL import Image, ImageCms, ImageOps
from PIL.TiffImagePlugin import IFDRational

from m2a.runtime.images import read_photo, write_photo


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("fmt", "suffix"), [("JPEG", ".jpg"), ("PNG", ".png"), ("TIFF", ".tif"), ("WEBP", ".webp")]
)
def test_orientation_is_applied_and_reset(tmp_path, fmt, suffix, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = put(tmp_path, f"in{suffix}", pillow(noise(3, 8), fmt, exif=exif))
    with Image.open(path) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    photo = read_photo(path)
    # Pillow and libvips both decode WebP with libwebp; lossy, but to the same samples.
    assert np.array_equal(photo.pixels, upright)
    for target in (".jpg", ".png", ".tif", ".webp"):
        out = tmp_path / f"out{target}"
        write_photo(out, photo, overwrite=True)
        with Image.open(out) as image:
            assert image.getexif().get(ORIENTATION, 1) == 1
            assert image.size == upright.shape[1::-1]


def test_xmp_does_not_turn_the_picture_again(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
    path = put(tmp_path, "in.jpg", pillow(noise(3, 8), "JPEG", exif=exif, xmp=xmp))
    write_photo(tmp_path / "out.jpg", read_photo(path), overwrite=False)
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.info["xmp"] == xmp.replace(b'"6"', b'"1"')


@pytest.mark.parametrize("target", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize(
    ("fmt", "suffix"), [("JPEG", ".jpg"), ("PNG", ".png"), ("TIFF", ".tif"), ("WEBP", ".webp")]
)
def test_icc_profile_is_carried_and_not_applied(tmp_path, fmt, suffix, target):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = read_photo(put(tmp_path, f"plain{suffix}", pillow(noise(3, 8), fmt)))
    photo = read_photo(put(tmp_path, f"in{suffix}", pillow(noise(3, 8), fmt, icc_profile=profile)))
    assert photo.icc_profile == profile
    assert np.array_equal(photo.pixels, plain.pixels)
    write_photo(tmp_path / f"out{target}", photo, overwrite=False)
    with Image.open(tmp_path / f"out{target}") as image:
        assert image.info["icc_profile"] == profile


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_exif_and_resolution_are_kept(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif[0x8298] = "© Müller".encode("latin-1")  # not UTF-8: must not stop the reading
    details = exif.get_ifd(0x8769)
    details[0x829A] = IFDRational(1, 30)
    details[0x927C] = bytes(noise(1, 8).ravel())
    path = put(tmp_path, "in.jpg", pillow(noise(3, 8), "JPEG", exif=exif, dpi=(300, 300)))
    write_photo(tmp_path / f"out{suffix}", read_photo(path), overwrite=False)
    with Image.open(tmp_path / f"out{suffix}") as image:
        kept = image.getexif()
    assert kept[0x010F] == "Maker"
    assert kept.get_ifd(0x8769)[0x829A] == pytest.approx(1 / 30)
    assert kept.get_ifd(0x8769)[0x927C] == details[0x927C]
    assert kept[0x011A] == pytest.approx(300)


@pytest.mark.parametrize(("fmt", "suffix"), [("JPEG", ".jpg"), ("PNG", ".png"), ("TIFF", ".tif")])
def test_resolution_is_kept_and_no_exif_is_invented(tmp_path, fmt, suffix):
    path = put(tmp_path, f"in{suffix}", pillow(noise(3, 8), fmt, dpi=(300, 300)))
    write_photo(tmp_path / f"out{suffix}", read_photo(path), overwrite=False)
    with Image.open(tmp_path / f"out{suffix}") as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)
        assert ("exif" in image.info) == (fmt == "JPEG")  # the only place for it in a JPEG file


def exif_with_thumbnail(thumbnail):
    """An EXIF block whose second directory (IFD1) holds a JPEG thumbnail."""
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    block = exif.tobytes()[6:]  # without "Exif\0\0"
    entries = struct.unpack_from(">H", block, 8)[0]
    link = 8 + 2 + 12 * entries  # where IFD0 says where IFD1 is
    start = len(block) + 2 + 12 * 3 + 4
    tags = [(0x0103, 3, 6 << 16), (0x0201, 4, start), (0x0202, 4, len(thumbnail))]
    packed = [struct.pack(">HHII", tag, kind, 1, value) for tag, kind, value in tags]
    directory = struct.pack(">H", 3) + b"".join(packed)
    block = block[:link] + struct.pack(">I", len(block)) + block[link + 4 :]
    return b"Exif\0\0" + block + directory + struct.pack(">I", 0) + thumbnail


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_thumbnail_of_the_blurred_photo_is_dropped(tmp_path, suffix):
    thumbnail = pillow(noise(3, 8), "JPEG")
    exif = exif_with_thumbnail(thumbnail)
    path = put(tmp_path, "in.jpg", pillow(noise(3, 8, seed=1), "JPEG", exif=exif))
    assert thumbnail in path.read_bytes()
    write_photo(tmp_path / f"out{suffix}", read_photo(path), overwrite=False)
    with Image.open(tmp_path / f"out{suffix}") as image:
        assert b"Maker" in image.info["exif"]
        assert thumbnail not in image.info["exif"]
