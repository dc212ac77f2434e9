"""Which pictures are read, what they are read as, and what is refused with which words."""

import io
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import pyvips
import tifffile
from pictures import KINDS, H, W, independent, joined, noise, pillow, png, put, tiff
from PIL import Image

from m2a.errors import ImageError, UsageError
from m2a.runtime.decoding import decode_photo
from m2a.runtime.encoding import check_encodable
from m2a.runtime.images import read_photo, write_photo


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("kind", ["grey", "rgb"])
def test_jpeg_is_decoded_as_pillow_decodes_it(tmp_path, kind, options):
    path = put(tmp_path, "in.jpg", pillow(noise(KINDS[kind], 8), "JPEG", **options))
    # Both use libjpeg-turbo's default inverse transform and upsampling.
    assert np.array_equal(read_photo(path).pixels, independent(path))


def test_avif_is_read(tmp_path):
    pytest.importorskip("PIL._avif", reason="this Pillow writes no AVIF")
    path = put(tmp_path, "in.avif", pillow(noise(3, 8), "AVIF", quality=100, subsampling="4:4:4"))
    photo = read_photo(path)
    assert photo.format == "AVIF/HEIF"
    # YCbCr to RGB is rounded differently by libheif and libavif.
    assert np.abs(photo.pixels.astype(int) - independent(path)).max() <= 2


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
    refused(put(tmp_path, "vector.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "SVG")


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


@pytest.fixture
def heic():
    """An AVIF file whose labels say HEVC: libheif looks for a decoder that is not there."""
    avif = pyvips.Image.black(64, 64, bands=3).heifsave_buffer(compression="av1")
    return (
        avif.replace(b"ftypavif", b"ftypheic").replace(b"av01", b"hvc1").replace(b"av1C", b"hvcC")
    )


def test_a_heic_photo_that_cannot_be_decoded_names_a_converter(heic):
    with pytest.raises(ImageError, match=r"a\.heic: found a HEIC photo.*heif-convert.*sips"):
        decode_photo(heic, origin="a.heic")


def test_heic_is_not_written():
    with pytest.raises(UsageError, match=r"found the suffix '\.heic', expected one of \.jpg"):
        check_encodable(suffix=".heic", origin="out.heic")
