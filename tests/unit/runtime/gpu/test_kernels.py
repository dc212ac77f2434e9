"""The CUDA kernels, run on the CPU, against NumPy bit for bit."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from emulated_device import EmulatedDevice, build_library, kernel_names
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from kernel_cases import (
    Bench,
    check_count,
    check_mask,
    check_means,
    check_picture,
    check_tables,
    check_turned,
)
from masks import draw_mask, masks

from m2a.errors import BackendError
from m2a.runtime.ensemble import ENSEMBLES, turns_of
from m2a.runtime.gpu import kernels
from m2a.runtime.gpu.device import Address, kernels_source, signature
from m2a.runtime.gpu.kernels import MAX_PIXELS, Size

FEW = settings(
    deadline=None,
    derandomize=True,
    max_examples=20,
    database=None,
    # The device holds no state that a later example could see.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

DTYPES = (np.uint8, np.uint16, np.float32)


def picture(dtype, shape, seed=0):
    values = np.random.default_rng(seed).random(shape)
    if np.dtype(dtype).kind == "f":
        return values.astype(dtype)
    return np.rint(values * np.iinfo(dtype).max).astype(dtype)


@FEW
@given(mask=masks(80))
@example(mask=np.ones((1, 1), bool))
@example(mask=np.ones((32, 64), bool))
@example(mask=draw_mask("checkerboard", 95, 33, seed=0))
@example(mask=draw_mask("rows", 70, 97, seed=1))
def test_the_tables_are_numpys(device, mask):
    check_tables(device, mask)


def test_more_chunks_than_blocks_and_than_threads(device):
    """Every loop goes round: over chunks in a block, and over their counts in the scan."""
    mask = draw_mask("random", 128, 160, seed=2)
    assert mask.size / (device.threads * kernels.ITEMS) > 5 * max(device.threads, device.blocks)
    check_tables(device, mask)


@pytest.mark.parametrize("blocks", [1, 2, 1000])
def test_the_number_of_blocks_changes_nothing(emulated_kernels, blocks):
    device = EmulatedDevice(emulated_kernels, blocks=blocks)
    check_tables(device, draw_mask("random", 40, 70, seed=3))


def test_an_empty_mask_has_no_sites(device):
    assert check_count(device, np.zeros((33, 40), bool)) == (0, 0, 0, 0)


@FEW
@given(
    seed=st.integers(0, 2**16),
    height=st.integers(1, 40),
    width=st.integers(1, 70),
    threshold=st.sampled_from([0.1, 0.5, 0.97, 1.0]),
    radius=st.integers(0, 12),
)
@example(seed=0, height=1, width=1, threshold=0.5, radius=10**9)
@example(seed=1, height=5, width=64, threshold=0.97, radius=100)
def test_threshold_and_dilation_are_numpys_and_padding_is_never_active(
    device, seed, height, width, threshold, radius
):
    rng = np.random.default_rng(seed)
    probability = rng.random((height, width), dtype=np.float32)
    probability[rng.random((height, width)) < 0.2] = threshold  # at least, not more than
    check_mask(device, probability, threshold, min(radius, 200) if radius < 10**9 else radius)


@FEW
@given(
    mask=masks(40),
    dtype=st.sampled_from(DTYPES),
    tail=st.sampled_from([(), (1,), (2,), (3,), (4,)]),
    seed=st.integers(0, 2**16),
)
@example(mask=np.ones((1, 1), bool), dtype=np.uint8, tail=(3,), seed=0)
@example(mask=np.ones((1, 40), bool), dtype=np.uint16, tail=(4,), seed=0)
@example(mask=np.ones((33, 2), bool), dtype=np.float32, tail=(), seed=0)
def test_pictures_are_converted_as_numpy_does(device, mask, dtype, tail, seed):
    rng = np.random.default_rng(seed)
    source = picture(dtype, mask.shape + tail, seed)
    residual = rng.normal(0, 0.5, (int(mask.sum()), 3)).astype(np.float32)
    check_picture(device, source, mask, residual)


@FEW
@given(
    mask=masks(40),
    dtype=st.sampled_from(DTYPES),
    tail=st.sampled_from([(), (2,), (3,), (4,)]),
    turn=st.sampled_from(turns_of(8)),
    seed=st.integers(0, 2**16),
)
@example(mask=np.ones((31, 1), bool), dtype=np.uint8, tail=(3,), turn=turns_of(8)[7], seed=0)
@example(mask=np.ones((33, 63), bool), dtype=np.uint8, tail=(3,), turn=turns_of(8)[5], seed=0)
def test_pictures_are_turned_as_numpy_does(device, mask, dtype, tail, turn, seed):
    check_turned(device, picture(dtype, mask.shape + tail, seed), mask, turn)


@FEW
@given(mask=masks(40), ensemble=st.sampled_from(ENSEMBLES), seed=st.integers(0, 2**16))
def test_means_over_turns_are_numpys(device, mask, ensemble, seed):
    check_means(device, mask, turns_of(ensemble), seed)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_halves_round_to_even_and_every_value_survives(device, dtype):
    white = np.iinfo(dtype).max
    levels = np.arange(256 if dtype == np.uint8 else 4096, dtype=dtype).repeat(3)
    source = levels.reshape(-1, 16, 3)
    mask = np.ones(source.shape[:2], bool)
    for change in (0.0, 0.5 / white, -0.5 / white, 1.5 / white):
        residual = np.full((mask.size, 3), change, np.float32)
        check_picture(device, source, mask, residual)


@pytest.mark.parametrize(
    ("values", "raised"),
    [([0, 1, -3e38], 0), ([0, np.inf, 1], 1), ([-np.inf], 1), ([np.nan] * 50, 1)],
)
def test_what_is_not_finite_is_flagged(device, values, raised):
    with device.active():
        bench = Bench(device)
        flag = bench.put(np.array([7], np.int32))
        bench.kernels.clear_flag(flag)
        bench.kernels.flag_not_finite(bench.put(np.array(values, np.float32)), flag, len(values))
        assert bench.get(flag, (1,), np.int32) == raised


def test_cells_without_a_trajectory_are_not_numbers(device):
    with device.active():
        bench = Bench(device)
        motion = np.arange(8, dtype=np.float32)
        rows, grid = np.array([2, 1, 2, 0], np.int32), bench.room(64)
        bench.kernels.motion_grid(bench.put(motion), bench.put(rows), grid, 4, 2)
        found = bench.get(grid, (4, 4), np.float32)
    assert np.isnan(found[[0, 2]]).all()
    assert found[[1, 3]].tolist() == [[4, 5, 6, 7], [0, 1, 2, 3]]


@pytest.mark.parametrize(("height", "width"), [(1, MAX_PIXELS), (5300, 5300)])
def test_a_picture_beyond_32_bit_indices_is_refused(height, width):
    with pytest.raises(BackendError, match=f"found a picture of {width}×{height}, expected at"):
        Size(height=height, width=width)


def test_the_largest_index_and_a_stride_beyond_it_are_32_bit():
    """75 values a pixel is the most; the loops' last step must not overflow."""
    most_threads = 4096 * 1024
    assert MAX_PIXELS * kernels.PATCH_VALUES + most_threads < 2**31


def test_the_numbers_of_the_source_are_those_of_the_host():
    source = kernels_source()
    defined = dict(re.findall(r"#define (\w+) (\d+)$", source, re.MULTILINE))
    assert int(defined["ITEMS"]) == kernels.ITEMS
    assert int(defined["PATCH"]) ** 2 * 3 == kernels.PATCH_VALUES


def test_every_kernel_is_launched_somewhere():
    """By its name, and so with its own arguments: the emulation compares their types."""
    launches = Path(kernels.__file__).read_text()
    for name in kernel_names(kernels_source()):
        stem = re.sub(r"_(uint8|uint16|float32)$", "_{TYPES", name)
        assert f'"{name}"' in launches or f'f"{stem}' in launches, name


def test_the_emulation_sees_a_barrier_that_not_all_threads_meet(tmp_path):
    before = "partial[own] = value;\n    __syncthreads();"
    source = kernels_source()
    assert before in source
    source = source.replace(before, "partial[own] = value;\n    if (own) __syncthreads();")
    device = EmulatedDevice(build_library(tmp_path, source=source))
    with pytest.raises(AssertionError, match="not met by all threads"):
        check_count(device, np.ones((32, 32), bool))


def test_an_argument_of_no_known_type_is_refused():
    assert signature((Address(8), 1, 1.0)) == "Pif"
    with pytest.raises(TypeError, match="expected an Address, int or float"):
        signature((np.int64(1),))


def test_the_emulation_sees_arguments_of_other_types(device):
    with device.active(), pytest.raises(AssertionError, match="not the kernel's"):
        device.launch("clear_flag", 1, (1.0,))
