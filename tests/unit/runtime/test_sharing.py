"""One `Deblurrer`, many threads and many pictures."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from m2a.runtime import load

SIZES = [(40, 60), (64, 64), (33, 97), (70, 50)]


@pytest.fixture(scope="module")
def deblurrer(tiny_bundle):
    return load(tiny_bundle, threads=1)


def picture(number):
    height, width = SIZES[number % len(SIZES)]
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_threads_that_share_it_get_what_one_alone_gets(deblurrer):
    numbers = list(range(40)) * 3
    alone = {number: deblurrer(picture(number)) for number in set(numbers)}
    with ThreadPoolExecutor(max_workers=8) as pool:
        together = list(pool.map(lambda number: deblurrer(picture(number)), numbers))
    assert sum(bool(result.mask.any()) for result in alone.values()) > 20
    for number, result in zip(numbers, together, strict=True):
        expected = alone[number]
        assert np.array_equal(result.image, expected.image), number
        assert np.array_equal(result.mask, expected.mask), number
        assert np.array_equal(result.motion, expected.motion, equal_nan=True), number
        assert set(result.seconds) == set(expected.seconds), number


def resident() -> int:
    """Bytes of this process in memory now."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the resident set on Linux only")
def test_memory_is_flat_over_500_pictures(deblurrer):
    pictures = [picture(number) for number in range(len(SIZES))]
    full = [np.ones(image.shape[:2], bool) for image in pictures]

    def deblur(count):
        for number in range(count):
            deblurrer(pictures[number % len(SIZES)], mask=full[number % len(SIZES)])

    deblur(100)  # the arena and Python's own pools grow at first
    before = resident()
    deblur(500)
    one = SIZES[1][0] * SIZES[1][1] * deblurrer.bundle.network.restore_bytes
    assert resident() - before < 3 * one  # a leak of one picture's memory would be 500 times that
