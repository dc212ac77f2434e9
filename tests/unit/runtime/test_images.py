"""Photographs in files: judged by Pillow, OpenCV and tifffile, which share no code with libvips.

Sources are made by Pillow, tifffile and a PNG writer of fifteen lines (`png`).
"""

import dataclasses
import io
import os
import struct
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps
from PIL.TiffImagePlugin import IFDRational

from m2a import files
from m2a.errors import ImageError, UsageError
from m2a.runtime import images
from m2a.runtime.images import (
    OUTPUT_SUFFIXES,
    Photo,
    check_output,
    read_mask,
    read_photo,
    write_mask,
    write_photo,
)

H, W = 19, 31
KINDS = {"grey": 1, "grey+alpha": 2, "rgb": 3, "rgb+alpha": 4}
ORIENTATION = 0x0112


def noise(channels, bits, *, seed=0, height=H, width=W):
    """[H, W, C] of every value; the alpha has a part of zeros, where encoders like to cheat."""
    dtype = np.uint8 if bits == 8 else np.uint16
    samples = np.random.default_rng(seed).integers(
        0, 2**bits, (height, width, channels), dtype=dtype
    )
    if channels in (2, 4):
        samples[: height // 2, :, -1] = 0
    return samples


def png(samples, *, bits=None, header=None):
    """PNG bytes of [H, W, C] samples, any depth; `header` overrides (width, height)."""
    height, width, channels = samples.shape
    bits = bits or 8 * samples.dtype.itemsize
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    if bits == 1:
        rows = np.packbits(samples[:, :, 0], axis=1)
    else:
        rows = samples.astype(samples.dtype.newbyteorder(">")).reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(name, body):
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    size = header or (width, height)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )


def pillow(samples, fmt, **options):
    """The bytes of a file that Pillow writes from 8-bit samples [H, W, C]."""
    stream = io.BytesIO()
    squeezed = samples[:, :, 0] if samples.shape[2] == 1 else samples
    Image.fromarray(squeezed).save(stream, fmt, **options)
    return stream.getvalue()


def tiff(samples, **options):
    channels = samples.shape[2]
    options.setdefault("photometric", "rgb" if channels >= 3 else "minisblack")
    if channels in (2, 4):
        options.setdefault("extrasamples", ["unassalpha"])
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples[:, :, 0] if channels == 1 else samples, **options)
    return stream.getvalue()


def independent(path):
    """[H, W, C] as another library reads it."""
    if path.suffix in (".tif", ".tiff"):
        found = tifffile.imread(path)
    elif path.suffix == ".png" and (path.read_bytes()[24] == 16):
        found = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
        if found.ndim == 3:
            found = found[:, :, [2, 1, 0, 3][: found.shape[2]]]
        if path.read_bytes()[25] == 4:  # OpenCV expands grey + alpha to colour + alpha
            assert np.array_equal(found[:, :, 0], found[:, :, 1])
            found = found[:, :, [0, 3]]
    else:
        with Image.open(path) as image:
            found = np.asarray(image)
    return found.reshape(*found.shape[:2], -1)


def joined(photo):
    if photo.alpha is None:
        return photo.pixels
    return np.concatenate([photo.pixels, photo.alpha[:, :, np.newaxis]], axis=2)


def put(folder, name, data):
    path = folder / name
    path.write_bytes(data)
    return path


# --- round trips -----------------------------------------------------------------------------


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


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("kind", ["grey", "rgb"])
def test_jpeg_is_decoded_as_pillow_decodes_it(tmp_path, kind, options):
    path = put(tmp_path, "in.jpg", pillow(noise(KINDS[kind], 8), "JPEG", **options))
    # Both use libjpeg-turbo's default inverse transform and upsampling.
    assert np.array_equal(read_photo(path).pixels, independent(path))


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


def test_avif_is_read(tmp_path):
    pytest.importorskip("PIL._avif", reason="this Pillow writes no AVIF")
    path = put(tmp_path, "in.avif", pillow(noise(3, 8), "AVIF", quality=100, subsampling="4:4:4"))
    photo = read_photo(path)
    assert photo.format == "AVIF/HEIF"
    # YCbCr to RGB is rounded differently by libheif and libavif.
    assert np.abs(photo.pixels.astype(int) - independent(path)).max() <= 2


# --- kinds of PNG and TIFF -------------------------------------------------------------------


def test_one_bit_png_is_eight_bit_grey(tmp_path):
    ones = noise(1, 8) % 2
    path = put(tmp_path, "in.png", png(ones, bits=1))
    assert np.array_equal(read_photo(path).pixels, 255 * ones)
    write_photo(tmp_path / "out.png", read_photo(path), overwrite=False)
    assert (tmp_path / "out.png").read_bytes()[24:26] == b"\x08\x00"  # 8 bits, grey


@pytest.mark.parametrize("transparency", [None, bytes([0, 7, 255])])
def test_palette_png_is_expanded(tmp_path, transparency):
    stream = io.BytesIO()
    source = Image.fromarray(noise(3, 8)).quantize(16)
    source.save(stream, "PNG", **({"transparency": transparency} if transparency else {}))
    photo = read_photo(put(tmp_path, "in.png", stream.getvalue()))
    with Image.open(tmp_path / "in.png") as image:
        expected = np.asarray(image.convert("RGBA" if transparency else "RGB"))
    assert np.array_equal(joined(photo), expected)


@pytest.mark.parametrize(
    "options", [{"compression": "zlib"}, {"byteorder": ">"}, {"tile": (16, 16)}]
)
def test_tiff_variants(tmp_path, options):
    samples = noise(3, 16)
    assert np.array_equal(
        read_photo(put(tmp_path, "a.tif", tiff(samples, **options))).pixels, samples
    )


# --- orientation and metadata ----------------------------------------------------------------


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


# --- what cannot be read ---------------------------------------------------------------------


def refused(path, *expected, **options):
    with pytest.raises(ImageError) as caught:
        read_photo(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    for words in ("expected", *expected):
        assert words in message


def test_missing_folder_empty_and_text(tmp_path):
    refused(tmp_path / "none.jpg", "found no such file")
    refused(tmp_path, "found a folder")
    refused(put(tmp_path, "empty.png", b""), "found an empty file")
    refused(put(tmp_path, "text.jpg", b"This is not a photo.\n" * 50), "unknown kind", "JPEG, PNG")
    refused(put(tmp_path, "vector.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "unknown")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("fmt", ["JPEG", "progressive", "PNG", "TIFF", "deflate", "WEBP"])
def test_truncated(tmp_path, fmt, share):
    options = {"progressive": {"progressive": True}, "deflate": {"compression": "tiff_deflate"}}
    name = {"progressive": "JPEG", "deflate": "TIFF"}.get(fmt, fmt)
    data = pillow(noise(3, 8, height=200, width=300), name, **options.get(fmt, {}))
    refused(put(tmp_path, "cut", data[: int(share * len(data))]), "found a damaged")


def test_damaged_png(tmp_path):
    data = bytearray(png(noise(3, 8)))
    data[len(data) // 2] ^= 0x55
    refused(put(tmp_path, "bad.png", bytes(data)), "found a damaged or unsupported PNG")


def test_damage_that_pyvips_cannot_decode_as_text(tmp_path):
    """A field or message of libvips that quotes a damaged file's bytes is not UTF-8."""
    pytest.importorskip("PIL._avif", reason="this Pillow writes no AVIF")
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    data = pillow(noise(3, 8), "AVIF", exif=exif)
    assert b"ExifExif" in data
    bad = put(tmp_path, "bad.avif", data.replace(b"ExifExif", b"\xc7xifExif"))
    refused(bad, "found a damaged or unsupported AVIF/HEIF")


@pytest.mark.parametrize("fmt", ["PNG", "TIFF"])
def test_absurd_resolution_is_replaced(tmp_path, capfd, fmt):
    path = put(tmp_path, "in", pillow(noise(3, 8), fmt, dpi=(5e7, 5e7)))
    photo = read_photo(path)
    assert photo.resolution == pytest.approx((72 / 25.4, 72 / 25.4))
    write_photo(tmp_path / "out.png", photo, overwrite=False)
    assert capfd.readouterr() == ("", "")


def test_absurd_size_is_refused_from_the_header(tmp_path):
    data = png(noise(3, 8), header=(100_000, 90_000))
    refused(put(tmp_path, "huge.png", data), "found 100000x90000", "at most 268435456")
    refused(put(tmp_path, "big.png", png(noise(3, 8))), f"{W}x{H}", max_pixels=H * W - 1)
    assert read_photo(tmp_path / "big.png", max_pixels=H * W).pixels.shape == (H, W, 3)


def test_unsupported_kinds(tmp_path):
    cmyk = io.BytesIO()
    Image.new("CMYK", (W, H)).save(cmyk, "JPEG")
    refused(put(tmp_path, "cmyk.jpg", cmyk.getvalue()), "cmyk", "grey or RGB")
    floating = noise(3, 8).astype(np.float32)
    refused(put(tmp_path, "float.tif", tiff(floating)), "float", "8 or 16 bits")
    refused(put(tmp_path, "u32.tif", tiff(noise(3, 8).astype(np.uint32))), "uint")
    pages = io.BytesIO()
    tifffile.imwrite(pages, np.stack([noise(3, 8)] * 2), photometric="rgb")
    refused(put(tmp_path, "pages.tif", pages.getvalue()), "found 2 pages")
    frames = [Image.fromarray(frame) for frame in (noise(3, 8), noise(3, 8, seed=1))]
    animated = io.BytesIO()
    frames[0].save(animated, "WEBP", save_all=True, append_images=frames[1:])
    refused(put(tmp_path, "moving.webp", animated.getvalue()), "found 2 pages or frames")


def test_tiff_with_sub_images_as_in_camera_raw(tmp_path):
    with tifffile.TiffWriter(tmp_path / "raw.dng") as writer:
        writer.write(noise(3, 8), photometric="rgb", subifds=1)
        writer.write(noise(1, 16, height=64, width=64)[:, :, 0], photometric="minisblack")
    refused(tmp_path / "raw.dng", "sub-images")


def test_libvips_says_nothing_on_standard_error(tmp_path):
    data = pillow(noise(3, 8, height=200, width=300), "JPEG")
    put(tmp_path, "cut.jpg", data[: len(data) // 2])
    broken = pillow(noise(3, 8), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 40)
    put(tmp_path, "exif.jpg", broken)
    put(tmp_path, "icc.png", pillow(noise(3, 8), "PNG", icc_profile=b"nonsense" * 30))
    script = """
        import sys
        from pathlib import Path
        from m2a.errors import ImageError
        from m2a.runtime.images import read_photo, write_photo
        folder = Path(sys.argv[1])
        try:
            read_photo(folder / "cut.jpg")
        except ImageError:
            pass
        for name in ("exif.jpg", "icc.png"):
            for suffix in (".jpg", ".png", ".tif", ".webp"):
                write_photo(folder / f"out{suffix}", read_photo(folder / name), overwrite=True)
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- outputs ---------------------------------------------------------------------------------

PHOTO = Photo(pixels=noise(3, 8))


def test_alpha_is_refused_by_jpeg(tmp_path):
    photo = Photo(pixels=noise(3, 8), alpha=noise(1, 8)[:, :, 0])
    with pytest.raises(UsageError, match=r"alpha.*\.png, \.tif, \.tiff, \.webp"):
        write_photo(tmp_path / "out.jpg", photo, overwrite=False)
    assert not list(tmp_path.iterdir())


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


@pytest.mark.parametrize("suffix", OUTPUT_SUFFIXES)
def test_the_suffix_names_the_format(tmp_path, suffix):
    write_photo(tmp_path / f"out{suffix.upper()}", PHOTO, overwrite=False)
    with Image.open(tmp_path / f"out{suffix.upper()}") as image:
        names = {"JPEG": (".jpg", ".jpeg"), "TIFF": (".tif", ".tiff")}
        assert suffix in names.get(image.format, (f".{image.format.lower()}",))


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


def test_replaced_pixels_are_written(tmp_path):
    photo = read_photo(put(tmp_path, "in.png", png(noise(4, 16))))
    changed = dataclasses.replace(photo, pixels=photo.pixels[:, ::-1])  # not contiguous
    write_photo(tmp_path / "out.png", changed, overwrite=False)
    again = read_photo(tmp_path / "out.png")
    assert np.array_equal(again.pixels, photo.pixels[:, ::-1])
    assert np.array_equal(again.alpha, photo.alpha)


@pytest.mark.parametrize(
    ("pixels", "alpha"),
    [
        (np.zeros((4, 5, 3), np.float32), None),
        (np.zeros((4, 5), np.uint8), None),
        (np.zeros((4, 5, 4), np.uint8), None),
        (np.zeros((0, 5, 3), np.uint8), None),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.uint16)),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), np.uint8)),
    ],
)
def test_photo_refuses_other_arrays(pixels, alpha):
    with pytest.raises(ValueError, match=r"found .*expected"):
        Photo(pixels=pixels, alpha=alpha)


# --- all or nothing --------------------------------------------------------------------------


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


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_write_failure_leaves_the_old_file(tmp_path, monkeypatch, step, error):
    path = put(tmp_path, "out.png", b"old")

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), fail)
    expected = ImageError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write_photo(path, PHOTO, overwrite=True)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path, monkeypatch, hard_links):
    path = tmp_path / "out.bin"
    synchronise = os.fsync

    def another_program_is_faster(descriptor):
        synchronise(descriptor)
        path.write_bytes(b"theirs")

    def unsupported(self, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fsync", another_program_is_faster)
    if not hard_links:
        monkeypatch.setattr(Path, "hardlink_to", unsupported)
    with pytest.raises(UsageError, match="--overwrite"):
        files.atomic_write(path, b"ours", overwrite=False)
    assert path.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [path]


def test_file_systems_without_hard_links(tmp_path, monkeypatch):
    def unsupported(self, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", unsupported)
    files.atomic_write(tmp_path / "out.bin", b"ours", overwrite=False)
    assert (tmp_path / "out.bin").read_bytes() == b"ours"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_mode_follows_the_umask(tmp_path, umask, overwrite):
    before = os.umask(umask)
    try:
        write_photo(tmp_path / "out.png", PHOTO, overwrite=overwrite)
    finally:
        os.umask(before)
    assert (tmp_path / "out.png").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.skipif(os.name != "posix", reason="Windows needs a privilege for symbolic links")
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_symbolic_link_is_followed(tmp_path, overwrite):
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "out.bin"
    if overwrite:
        target.write_bytes(b"old")
    link = tmp_path / "link.bin"
    link.symlink_to(target)
    files.atomic_write(link, b"new", overwrite=overwrite)
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


# --- masks -----------------------------------------------------------------------------------


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
