"""Tables, patches and masks against slow, obvious loops written from DESIGN section 4."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from masks import draw_mask, masks

from m2a.runtime.graph_inputs import extract_patches
from m2a.runtime.sites import SiteBuffers, build_sites, dilate, pad_image, pad_mask, padded_size
from m2a.runtime.workers import ALONE, Workers

FEW = settings(deadline=None, derandomize=True, max_examples=25, database=None)

Pixel = tuple[int, int]


def slow_sites(mask: np.ndarray) -> list[dict[Pixel, int]]:
    """Per level: active pixel (y, x) → row, row-major."""
    levels = []
    active = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
    for _ in range(4):
        levels.append({pixel: row for row, pixel in enumerate(sorted(active))})
        active = {(y // 2, x // 2) for y, x in active}
    return levels


def slow_tables(mask: np.ndarray) -> dict[str, np.ndarray]:
    levels = slow_sites(mask)
    tables: dict[str, list] = {}
    for number, rows in enumerate(levels):
        tables[f"neighbours_{number}"] = [
            [
                rows.get((y + dy, x + dx), len(rows))
                for dy, dx in itertools.product((-1, 0, 1), repeat=2)
            ]
            for y, x in rows
        ]
    for number, (fine, coarse) in enumerate(itertools.pairwise(levels)):
        tables[f"children_{number}"] = [
            [
                fine.get((2 * y + dy, 2 * x + dx), len(fine))
                for dy, dx in itertools.product((0, 1), repeat=2)
            ]
            for y, x in coarse
        ]
        tables[f"parents_{number}"] = [
            4 * coarse[y // 2, x // 2] + 2 * (y % 2) + x % 2 for y, x in fine
        ]
    height, width = mask.shape[0] // 4, mask.shape[1] // 4
    tables["site_map"] = [
        levels[2].get((y, x), len(levels[2])) for y in range(height) for x in range(width)
    ]
    tables["site_xy"] = [[x, y] for y, x in levels[2]]
    tables["grid_size"] = [width, height]
    return {name: np.array(table, np.int32) for name, table in tables.items()}


@FEW
@given(mask=masks(80))
@example(mask=np.ones((1, 1), bool))
@example(mask=np.ones((32, 64), bool))
def test_the_tables_are_those_of_the_design(mask):
    padded = pad_mask(mask)
    sites = build_sites(padded)
    expected = slow_tables(padded)
    assert set(sites.tables) == set(expected)
    for name, table in expected.items():
        assert sites.tables[name].dtype == np.int32, name
        assert sites.tables[name].flags.c_contiguous, name
        assert np.array_equal(sites.tables[name], table), name
    assert sites.shape == padded.shape
    assert sites.counts == tuple(len(level) for level in slow_sites(padded))
    width = padded.shape[1]
    assert sites.pixels.tolist() == [y * width + x for y, x in slow_sites(padded)[0]]


def test_memory_that_is_used_again_holds_nothing_of_the_mask_before():
    buffers = SiteBuffers()
    rng = np.random.default_rng(0)
    for size, share in (((96, 64), 0.9), ((32, 64), 0.1), ((64, 32), 0.5), ((96, 96), 0.02)):
        mask = rng.random(size) < share
        sites = build_sites(mask, Workers(2), buffers)
        for name, table in slow_tables(mask).items():
            assert np.array_equal(sites.tables[name], table), (size, name)


def test_each_thread_has_memory_of_its_own():
    buffers = SiteBuffers()
    mask = np.ones((32, 32), bool)
    mine = build_sites(mask, ALONE, buffers).tables
    with ThreadPoolExecutor(1) as pool:
        others = pool.submit(build_sites, mask, ALONE, buffers).result().tables
    assert not np.shares_memory(mine["neighbours_0"], others["neighbours_0"])
    again = build_sites(mask, ALONE, buffers).tables
    assert np.shares_memory(mine["neighbours_0"], again["neighbours_0"])


@FEW
@given(mask=masks(40))
@example(mask=np.ones((1, 1), bool))
def test_the_patches_are_those_of_the_design(mask):
    image = np.random.default_rng(0).random((*mask.shape, 3), dtype=np.float32)
    surroundings, padded = pad_image(image), pad_mask(mask)
    patches = extract_patches(surroundings, build_sites(padded).pixels)
    expected = [
        [
            surroundings[y + ky, x + kx, c]
            for ky, kx, c in itertools.product(range(5), range(5), range(3))
        ]
        for y, x in slow_sites(padded)[0]
    ]
    assert patches.dtype == np.float32
    assert patches.flags.c_contiguous
    assert np.array_equal(patches, np.array(expected, np.float32))


def test_the_centre_of_a_patch_is_the_pixel_itself():
    image = np.random.default_rng(0).random((33, 40, 3), dtype=np.float32)
    mask = draw_mask("random", 33, 40, seed=1)
    patches = extract_patches(pad_image(image), build_sites(pad_mask(mask)).pixels)
    assert np.array_equal(patches.reshape(-1, 5, 5, 3)[:, 2, 2], image[mask])


@FEW
@given(mask=masks(40), radius=st.integers(0, 12))
@example(mask=np.ones((1, 1), bool), radius=5)
@example(mask=np.eye(3, 9, 8, dtype=bool), radius=4)
def test_dilation_reaches_every_pixel_within_the_radius_and_no_other(mask, radius):
    before = mask.copy()
    expected = np.zeros_like(mask)
    for y, x in zip(*np.nonzero(mask), strict=True):
        expected[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1] = True
    assert np.array_equal(dilate(mask, radius), expected)
    assert np.array_equal(mask, before)


def test_an_empty_mask_stays_empty_under_dilation():
    assert not dilate(np.zeros((5, 7), bool), 3).any()


def test_dilation_beyond_the_picture_fills_it():
    mask = np.zeros((3, 4), bool)
    mask[0, 0] = True
    assert dilate(mask, 100).all()


@FEW
@given(mask=masks(70))
def test_padding_is_never_active(mask):
    height, width = mask.shape
    padded = pad_mask(mask)
    assert padded.shape == (padded_size(height), padded_size(width))
    assert np.array_equal(padded[:height, :width], mask)
    assert padded.sum() == mask.sum()


@pytest.mark.parametrize(
    ("size", "padded"), [(1, 32), (31, 32), (32, 32), (33, 64), (64, 64), (65, 96)]
)
def test_sides_are_padded_to_multiples_of_32(size, padded):
    assert padded_size(size) == padded


def test_an_empty_mask_is_refused():
    with pytest.raises(ValueError, match="no active pixel"):
        build_sites(np.zeros((32, 32), bool))


@pytest.mark.parametrize("shape", [(32, 33), (31, 32), (16, 16), (32,), (1, 32, 32)])
def test_a_mask_that_is_not_padded_is_refused(shape):
    with pytest.raises(ValueError, match="multiples of 32"):
        build_sites(np.ones(shape, bool))
