"""Formats × depths × orientation × alpha × ICC, from file to file, as a photographer sees it.

The file is made, and the result judged, by Pillow, tifffile and OpenCV, which share no code with
libvips. Between them stands a network that inverts what lies in the mask.
"""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import tifffile
from pictures import ORIENTATION, H, W, independent, noise, pillow, png, put, tiff
from PIL import Image, ImageCms, ImageOps

from m2a.runtime.batch import deblur_files
from m2a.runtime.images import read_photo, write_mask
from m2a.runtime.outcomes import DONE
from m2a.runtime.plan import Job
from m2a.runtime.result import Result
from m2a.runtime.settings import Settings

LOSSLESS = {"png8": 8, "png16": 16, "tiff8": 8, "tiff16": 16, "webp8": 8}
LOSSY = {"jpeg8": 8, "avif8": 8}
SUFFIXES = {"png": ".png", "tiff": ".tif", "webp": ".webp", "jpeg": ".jpg", "avif": ".avif"}

TARGETS = {".png": 16, ".tif": 16, ".webp": 8, ".avif": 8}
"""Suffix → bits that it holds without loss."""


def wide(profile):
    """The profile with the primaries of Adobe RGB (1998), adapted to D50."""
    primaries = {
        b"rXYZ": (0.60974, 0.31111, 0.01947),
        b"gXYZ": (0.20528, 0.62567, 0.06087),
        b"bXYZ": (0.14919, 0.06322, 0.74457),
    }
    changed = bytearray(profile)
    for entry in range(132, 132 + 12 * int.from_bytes(profile[128:132], "big"), 12):
        name, place = struct.unpack_from(">4sI", profile, entry)
        if name in primaries:
            fixed = (round(value * 2**16) for value in primaries[name])
            struct.pack_into(">3i", changed, place + 8, *fixed)
    assert bytes(changed) != profile
    return bytes(changed)


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
PROFILES = {"no profile": None, "sRGB": SRGB, "wide": wide(SRGB)}

UPRIGHT = {
    1: lambda a: a,
    3: lambda a: a[::-1, ::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
}
"""EXIF orientation → what turns the samples of the file upright."""


def source(kind, samples, orientation, profile):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    exif[0x010F] = "Maker"
    if kind.startswith("png"):
        return png(samples, exif=exif, icc_profile=profile)
    if kind.startswith("tiff"):
        tags = [(ORIENTATION, "H", 1, orientation, True)]
        return tiff(samples, extratags=tags, iccprofile=profile, resolution=(300, 300))
    options = {"exif": exif, "icc_profile": profile}
    if kind == "webp8":
        options |= {"lossless": True, "exact": True}
    if kind == "avif8":
        options |= {"quality": 100, "subsampling": "4:4:4"}
    return pillow(samples, kind[:-1].upper(), **options)


def invert_inside(pixels, *, mask):
    image = pixels.copy()
    image[mask] = np.iinfo(pixels.dtype).max - pixels[mask]
    shape = (-(-mask.shape[0] // 32) * 8, -(-mask.shape[1] // 32) * 8, 4)
    return Result(
        image=image,
        mask=mask,
        probability=None,
        coverage=float(mask.mean()),
        motion=np.zeros(shape, np.float32),
        seconds={},
        backend="none",
    )


invert_inside.threshold, invert_inside.precision, invert_inside.precision_reason = (
    0.5,
    "fp32",
    "asked for",
)
invert_inside.ensemble = 1


def deblur(path, out, mask):
    write_mask(path.with_name("mask.png"), mask, overwrite=False)
    settings = Settings(mask=str(path.with_name("mask.png")))
    (outcome,) = deblur_files([Job(source=path, output=out)], settings, lambda: invert_inside)
    assert outcome.status == DONE, outcome.reason


def some_mask(shape):
    mask = np.zeros(shape[:2], bool)
    mask[3:11, 5:14] = True
    return mask


def check(found, expected, mask, colours):
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert np.array_equal(found[~mask], expected[~mask])
    inverted = np.iinfo(expected.dtype).max - expected[mask][:, :colours]
    assert np.array_equal(found[mask][:, :colours], inverted)
    assert np.array_equal(found[:, :, colours:], expected[:, :, colours:])  # alpha


def check_metadata(out, profile, *, exif):
    if out.suffix == ".tif":
        with tifffile.TiffFile(out) as file:
            tags = file.pages[0].tags
            found = tags["InterColorProfile"].value if "InterColorProfile" in tags else None
            assert (tags[ORIENTATION].value if ORIENTATION in tags else 1) == 1
        assert found == profile
        return
    with Image.open(out) as image:
        assert image.info.get("icc_profile") == profile
        assert image.getexif().get(ORIENTATION, 1) == 1
        assert image.getexif().get(0x010F) == ("Maker" if exif else None)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("alpha", [False, True], ids=["opaque", "alpha"])
@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(
    ("kind", "target"),
    [(k, t) for k, bits in LOSSLESS.items() for t, held in TARGETS.items() if held >= bits],
)
def test_lossless_to_lossless(tmp_path, kind, target, orientation, alpha, profile):
    samples = noise(4 if alpha else 3, LOSSLESS[kind])
    path = put(tmp_path, "in", source(kind, samples, orientation, PROFILES[profile]))
    expected = UPRIGHT[orientation](samples)
    mask = some_mask(expected.shape)
    out = tmp_path / f"out{target}"
    deblur(path, out, mask)
    check(independent(out), expected, mask, 3)
    check_metadata(out, PROFILES[profile], exif=not kind.startswith("tiff"))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("target", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("kind", LOSSY)
def test_lossy_to_lossless(tmp_path, kind, target, orientation, profile):
    data = source(kind, noise(3, 8), orientation, PROFILES[profile])
    path = put(tmp_path, "in", data)
    with Image.open(io.BytesIO(data)) as image:
        reference = np.asarray(ImageOps.exif_transpose(image))
    decoded = read_photo(path).pixels
    # Pillow and libvips share libjpeg's arithmetic; libheif and libavif each round YCbCr to RGB.
    tolerance = 0 if kind == "jpeg8" else 2
    assert np.abs(decoded.astype(int) - reference).max() <= tolerance
    mask = some_mask(decoded.shape)
    out = tmp_path / f"out{target}"
    deblur(path, out, mask)
    check(independent(out), decoded, mask, 3)
    check_metadata(out, PROFILES[profile], exif=True)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", [*LOSSY, "webp lossy"])
def test_lossy_to_its_own_format(tmp_path, kind, orientation):
    smooth = np.broadcast_to(np.linspace(40, 200, W).astype(np.uint8)[:, np.newaxis], (H, W, 3))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    fmt = {"jpeg8": "JPEG", "avif8": "AVIF", "webp lossy": "WEBP"}[kind]
    data = pillow(np.ascontiguousarray(smooth), fmt, quality=80, exif=exif)
    path = put(tmp_path, "in", data)
    decoded = read_photo(path).pixels
    out = tmp_path / f"out{SUFFIXES[fmt.lower()]}"
    mask = np.zeros(decoded.shape[:2], bool)
    mask[0, 0] = True  # or the file would be copied
    deblur(path, out, mask)
    found = independent(out)
    assert found.shape == decoded.shape
    # Coded twice: of smooth samples a step or two of the quantiser is left.
    away = np.s_[16:, 16:]
    assert np.abs(found.astype(int) - decoded)[away].max() <= 6
    check_metadata(out, None, exif=False)
