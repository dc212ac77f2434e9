"""How a lossy file was coded, read from its header, so that the result can be written alike.

A JPEG file does not say its quality, only the quantisation tables that came of it. libjpeg makes
them by scaling two tables of the standard (Annex K): for quality q by s/100, where s = 5000/q below
50 and 200 - 2q from 50, rounded, kept within 1 and 255. `quality_of` goes back: the lowest q whose
steps are on average no coarser than the file's. For libjpeg's own tables that is the very q; for a
camera's own ones the result is on average a little finer than the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Coding", "coding_of_jpeg", "coding_of_webp", "quality_of"]


@dataclass(frozen=True, kw_only=True)
class Coding:
    """How the samples of a lossy file were coded.

    Attributes:
        quality: libjpeg's quality, 1 to 100; None where the file does not tell.
        subsampled: whether chroma has half the resolution in both directions (4:2:0).
        bits: bits per sample: 8, 10 or 12.
    """

    quality: int | None = None
    subsampled: bool = False
    bits: int = 8


_LUMINANCE = [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
]

_CHROMINANCE = [
    [17, 18, 24, 47, 99, 99, 99, 99],
    [18, 21, 26, 66, 99, 99, 99, 99],
    [24, 26, 56, 99, 99, 99, 99, 99],
    [47, 66, 99, 99, 99, 99, 99, 99],
    *[[99] * 8] * 4,
]


def quality_of(tables: list[NDArray[np.uint16]]) -> int:
    """The libjpeg quality that comes closest to quantisation tables without being coarser.

    Args:
        tables: one or two of 64 steps each, in any one order: of luminance, and of chrominance.

    Returns:
        The lowest quality, 1 to 100, at which the mean step is at most that of `tables`; 100 where
        even its steps of 1 are coarser.
    """
    found = sum(int(table.sum(dtype=np.int64)) for table in tables)
    scales = np.array([5000 // q if q < 50 else 200 - 2 * q for q in range(1, 101)])
    standard = np.array([_LUMINANCE, _CHROMINANCE][: len(tables)]).reshape(-1)
    steps = np.clip((standard * scales[:, np.newaxis] + 50) // 100, 1, 255)
    fine_enough = steps.sum(axis=1) <= found
    return int(fine_enough.argmax()) + 1 if fine_enough.any() else 100


def coding_of_jpeg(data: bytes) -> Coding | None:
    """Reads the tables and the chroma subsampling of a JPEG file.

    Args:
        data: the file, of which the headers before the first scan are looked at.

    Returns:
        The coding; None where the headers do not hold what they should.
    """
    tables: dict[int, NDArray[np.uint16]] = {}
    components: list[tuple[int, int]] = []
    try:
        for marker, body in _segments(data):
            if marker == 0xDB:
                tables |= _tables(body)
            elif 0xC0 <= marker <= 0xC2:  # the Huffman-coded, lossy kinds of frame
                components = [(body[n + 1], body[n + 2]) for n in range(6, 6 + 3 * body[5], 3)]
        names = dict.fromkeys(table for _, table in components)
        used = [tables[name] for name in names][:2]
    except (IndexError, KeyError, struct.error, ValueError):
        return None
    if not used:
        return None
    sampling = [factors for factors, _ in components]
    return Coding(quality=quality_of(used), subsampled=sampling == [0x22, 0x11, 0x11])


def coding_of_webp(data: bytes) -> Coding | None:
    """Tells lossy from lossless WebP.

    Returns:
        A coding without quality, which the file does not tell; None where it is lossless.
    """
    place = 12
    while place + 8 <= len(data):
        name, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        if name in (b"VP8 ", b"VP8L"):
            return Coding(subsampled=True) if name == b"VP8 " else None
        place += 8 + size + size % 2
    return None


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of the segments before the first scan."""
    place = 2
    while data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # a filling byte
            place += 1
            continue
        (length,) = struct.unpack_from(">H", data, place + 2)
        if marker == 0xDA or length < 2:
            return
        yield marker, data[place + 4 : place + 2 + length]
        place += 2 + length


def _tables(body: bytes) -> dict[int, NDArray[np.uint16]]:
    """Number → steps of the tables in one DQT segment, which hold 8 or 16 bits a step."""
    tables = {}
    place = 0
    while place < len(body):
        wide, number = body[place] >> 4, body[place] & 15
        steps = np.frombuffer(body, ">u2" if wide else np.uint8, count=64, offset=place + 1)
        tables[number] = steps.astype(np.uint16)
        place += 1 + steps.nbytes
    return tables
