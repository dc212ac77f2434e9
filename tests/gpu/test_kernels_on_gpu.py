"""The CUDA kernels on a GPU against NumPy, bit for bit.

On a machine with a GPU, TensorRT and the CUDA toolkit:

    pip install -e '.[cpu,dev,tensorrt]'
    python -m pytest -n 0 tests/gpu -v

and, for what equal results do not show, once under each tool of NVIDIA's compute-sanitizer:

    for tool in memcheck racecheck initcheck synccheck; do
      compute-sanitizer --tool $tool --error-exitcode 1 python -m pytest -n 0 tests/gpu -k kernels
    done
"""

from __future__ import annotations

import numpy as np
import pytest
from kernel_cases import (
    check_count,
    check_mask,
    check_means,
    check_picture,
    check_tables,
    check_turned,
)
from masks import KINDS, draw_mask

from m2a.runtime.ensemble import turns_of

SIZES = [(1, 1), (31, 33), (70, 97), (128, 160), (721, 1083)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_tables_are_numpys(gpu, kind, size):
    check_tables(gpu, draw_mask(kind, *size, seed=0))


def test_the_largest_profile(gpu):
    """More chunks than blocks: 16 million pixels, every other one active."""
    y, x = np.mgrid[:4096, :4096]
    check_tables(gpu, (y + x) % 2 == 0)


def test_an_empty_mask_has_no_sites(gpu):
    assert check_count(gpu, np.zeros((33, 40), bool)) == (0, 0, 0, 0)


@pytest.mark.parametrize("radius", [0, 1, 4, 100, 10**9])
@pytest.mark.parametrize("size", SIZES)
def test_threshold_and_dilation_are_numpys(gpu, size, radius):
    probability = np.random.default_rng(0).random(size, dtype=np.float32)
    check_mask(gpu, probability, 0.999, radius)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("tail", [(), (1,), (2,), (3,), (4,)])
@pytest.mark.parametrize("size", SIZES)
def test_pictures_are_converted_as_numpy_does(gpu, size, tail, dtype):
    rng = np.random.default_rng(0)
    values = rng.random(size + tail)
    white = 1 if dtype == np.float32 else np.iinfo(dtype).max
    source = (values * white).astype(dtype)
    mask = draw_mask("random", *size, seed=1)
    residual = rng.normal(0, 0.5, (int(mask.sum()), 3)).astype(np.float32)
    check_picture(gpu, source, mask, residual)


@pytest.mark.parametrize("turn", turns_of(8))
@pytest.mark.parametrize("size", SIZES)
def test_pictures_are_turned_as_numpy_does(gpu, size, turn):
    source = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    check_turned(gpu, source, draw_mask("random", *size, seed=1), turn)


@pytest.mark.parametrize("size", SIZES)
def test_means_over_turns_are_numpys(gpu, size):
    check_means(gpu, draw_mask("random", *size, seed=1), turns_of(8), seed=0)
