"""Pictures that are made to be too much: refused by a stated limit, from their header."""

from __future__ import annotations

import os
import struct
import zlib

import numpy as np
import pytest
import tifffile
from pictures import H, W, noise, pillow, png, put

from m2a.errors import ImageError, PixelLimitError
from m2a.runtime import decoding
from m2a.runtime.decoding import MAX_PIXELS, decode_photo
from m2a.runtime.images import read_mask, read_photo


def jpeg(width, height):
    data = bytearray(pillow(noise(3, 8), "JPEG"))
    frame = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, frame + 5, height, width)
    return bytes(data)


def tiff(width, height):
    """A TIFF header alone, little-endian, whose strip lies beyond the end."""
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1)]
    tags += [(278, height), (279, width * height % 2**32)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)


def avif(width, height):
    data = bytearray(pillow(noise(3, 8), "AVIF"))
    box = data.index(b"ispe")
    struct.pack_into(">II", data, box + 8, width, height)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (png(noise(3, 8), header=(100_000, 90_000)), "found 100000x90000 pixels"),
        (jpeg(65_000, 65_000), "found 65000x65000 pixels"),
        (tiff(90_000, 80_000), "found 90000x80000 pixels"),
        (avif(2**31 - 1, 2**31 - 1), "AVIF/HEIF"),
        (avif(60_000, 60_000), "AVIF/HEIF|60000x60000"),
    ],
    ids=["PNG", "JPEG", "TIFF", "AVIF overflow", "AVIF"],
)
def test_a_header_that_claims_too_many_pixels(data, words):
    with pytest.raises(ImageError, match=words):
        decode_photo(data, origin="bomb")


def test_the_limit_is_that_of_the_message():
    with pytest.raises(ImageError, match=f"at most {MAX_PIXELS}; --max-pixels"):
        decode_photo(jpeg(65_000, 65_000), origin="bomb")
    assert decode_photo(png(noise(3, 8)), origin="", max_pixels=H * W).pixels.shape == (H, W, 3)
    with pytest.raises(ImageError, match=f"at most {H * W - 1}"):
        decode_photo(png(noise(3, 8)), origin="", max_pixels=H * W - 1)


@pytest.mark.parametrize(
    ("width", "height", "counted"),
    [(1, 100, 3200), (100, 1, 3200), (40, 31, 1280), (64, 48, 3072), (19, 31, 589), (32, 32, 1024)],
)
def test_a_narrow_picture_counts_as_what_it_is_padded_to(width, height, counted):
    data = png(np.zeros((height, width, 3), np.uint8))
    assert decode_photo(data, origin="", max_pixels=counted).pixels.shape == (height, width, 3)
    with pytest.raises(PixelLimitError, match=rf"{width}x{height} pixels.*at most {counted - 1};"):
        decode_photo(data, origin="", max_pixels=counted - 1)


def test_webp_cannot_claim_more_than_the_limit():
    assert MAX_PIXELS > 16_383**2


def test_a_mask_has_the_limit_too(tmp_path):
    path = put(tmp_path, "mask.png", png(noise(1, 8), header=(100_000, 90_000)))
    with pytest.raises(ImageError, match="found 100000x90000 pixels"):
        read_mask(path, shape=(H, W))


def test_metadata_of_a_size_that_cannot_be_meant(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_METADATA", 10_000)
    profile = bytes(20_000)
    for fmt in ("JPEG", "TIFF", "WEBP"):
        path = put(tmp_path, fmt, pillow(noise(3, 8), fmt, icc_profile=profile))
        with pytest.raises(ImageError, match=r"found \d+ bytes of metadata, .* most 10000"):
            read_photo(path)
    assert read_photo(put(tmp_path, "small.png", png(noise(3, 8)))).icc_profile is None


def chunk(name, body):
    crc = zlib.crc32(name + body)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", crc)


@pytest.mark.parametrize("name", ["iCCP", "zTXt", "iTXt"])
def test_a_packed_chunk_that_unpacks_to_a_thousandfold(name):
    """256 MB of zeros: left out or refused, never unpacked."""
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(2**8)) + packer.flush()
    keyword = b"XML:com.adobe.xmp\0\x01\0\0\0" if name == "iTXt" else b"bomb\0\0"
    whole = png(noise(3, 8))
    place = whole.index(b"IDAT") - 4
    bomb = whole[:place] + chunk(name.encode(), keyword + packed) + whole[place:]
    resource = pytest.importorskip("resource", reason="measures memory as POSIX does")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        photo = decode_photo(bomb, origin="bomb")
        assert photo.icc_profile is None
        assert np.array_equal(photo.pixels, noise(3, 8))
    except ImageError as error:
        assert "found" in str(error)  # noqa: PT017 - either is right
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # in kB
    assert grown < 100_000


def test_a_file_longer_than_any_picture_needs_is_refused_unread(tmp_path):
    path = tmp_path / "long.png"
    path.touch()
    os.truncate(path, 2**27)  # sparse: it takes no room
    with pytest.raises(ImageError, match=r"cannot be read: longer than 67108944 bytes"):
        read_photo(path, max_pixels=10)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="not a regular file"):
        read_photo(tmp_path / "pipe.png")


def test_a_tile_larger_than_the_picture(tmp_path):
    tifffile.imwrite(tmp_path / "in.tif", noise(3, 8), photometric="rgb", tile=(16, 16))
    data = bytearray((tmp_path / "in.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "in.tif") as file:
        for name in ("TileWidth", "TileLength"):
            struct.pack_into("<H", data, file.pages[0].tags[name].valueoffset, 65_520)
    with pytest.raises(ImageError, match="found a damaged"):
        decode_photo(bytes(data), origin="bomb")
