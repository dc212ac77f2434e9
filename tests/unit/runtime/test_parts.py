"""Spatial parts: the halo is wide enough, the split exact, and memory keeps its bound."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from masks import draw_mask

from m2a.errors import UsageError
from m2a.runtime import load
from m2a.runtime.graph_inputs import to_unit
from m2a.runtime.parts import (
    NetworkShape,
    dense_parts,
    mask_parts,
    restore_parts,
    smallest_memory,
)
from m2a.runtime.pixels import check_pixels
from m2a.runtime.sites import pad_image, pad_mask
from m2a.runtime.windows import Box, PaddedPicture

SMALL = NetworkShape(width=16, blocks=(1, 1, 2, 2), mask_stem_width=16, mask_blocks=(0, 1, 1, 2))
BASE = NetworkShape(
    width=32,
    blocks=(2, 2, 4, 4),
    mask_stem_width=32,
    mask_blocks=(1, 2, 2, 3),
    mask_mirrored=True,
)

SPLIT = 1e-6
"""Largest difference between a picture in parts and as a whole. Every value is computed from the
same numbers in the same order; only the kernels that a convolution takes near its border differ."""


def test_the_halos_of_the_presets():
    assert (SMALL.restore_halo, BASE.restore_halo) == (96, 160)
    assert (SMALL.mask_halo, BASE.mask_halo) == (160, 224)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def deblurrer(tiny_bundle):
    return load(tiny_bundle, dilate=0)


@pytest.fixture(scope="module")
def in_parts(tiny_bundle):
    """Takes parts as small as the halos allow, far below what is accepted from a user."""
    deblurrer = load(tiny_bundle, dilate=0)
    for part in (deblurrer, deblurrer.gathered, deblurrer.dense):
        part.max_memory = 2**22
    return deblurrer


def test_the_probability_does_not_depend_on_the_split(deblurrer, in_parts):
    padded = PaddedPicture(check_pixels(picture(330, 420)))
    network = deblurrer.bundle.network
    assert len(list(mask_parts(network, padded.box, memory=in_parts.max_memory))) > 3
    expected, found = deblurrer.predict(padded), in_parts.predict(padded)
    assert np.ptp(expected) > 0.1
    assert np.abs(found - expected).max() <= SPLIT


@pytest.mark.parametrize("kind", ["full", "random", "checkerboard", "rows"])
@pytest.mark.parametrize(
    ("restoration", "split"), [("gathered", restore_parts), ("dense", dense_parts)]
)
def test_the_restoration_does_not_depend_on_the_split(
    deblurrer, in_parts, kind, restoration, split
):
    mask = draw_mask(kind, 330, 420, seed=5)
    padded = PaddedPicture(check_pixels(picture(330, 420)))
    parts = split(deblurrer.bundle.network, pad_mask(mask), memory=in_parts.max_memory)
    assert len(list(parts)) > 3
    expected, found = (
        opened.restore(padded, mask, restoration=getattr(opened, restoration))
        for opened in (deblurrer, in_parts)
    )
    assert expected.residual[mask].std() > 0.05
    assert np.abs(found.residual - expected.residual).max() <= SPLIT
    assert np.array_equal(np.isnan(found.motion), np.isnan(expected.motion))
    assert np.nanmax(np.abs(found.motion - expected.motion)) <= 48 * SPLIT


@pytest.mark.parametrize(("dtype", "shape"), [(np.uint16, (150, 200, 4)), (np.uint8, (200, 150))])
def test_a_call_in_parts_gives_the_same_picture(deblurrer, in_parts, dtype, shape):
    values = np.random.default_rng(1).random(shape) * np.iinfo(dtype).max
    image = np.rint(values).astype(dtype)
    mask = draw_mask("random", *shape[:2], seed=2)
    whole, parts = deblurrer(image, mask=mask), in_parts(image, mask=mask)
    assert np.abs(whole.image.astype(int) - parts.image).max() <= 1
    assert np.array_equal(whole.image[~mask], parts.image[~mask])
    assert set(parts.seconds) == set(whole.seconds)


def test_what_lies_beyond_the_halo_does_not_matter(deblurrer):
    """And what lies just inside does, or the halo would be wider than it need be."""
    network = deblurrer.bundle.network
    height, width = 64, 2 * network.restore_halo + 96
    mask = np.ones((height, width), bool)
    box = Box(top=0, left=network.restore_halo + 32, bottom=64, right=network.restore_halo + 64)
    image = picture(height, width)

    def inside(mask):
        padded = PaddedPicture(check_pixels(image))
        restored = deblurrer.restore(padded, mask, restoration=deblurrer.gathered)
        return restored.residual[box.slices]

    expected = inside(mask)
    beyond = mask.copy()
    beyond[:, : box.left - network.restore_halo] = False
    beyond[:, box.right + network.restore_halo :] = False
    assert np.array_equal(inside(beyond), expected)
    nearer = mask.copy()
    nearer[:, : box.left - network.restore_halo + 48] = False
    assert not np.array_equal(inside(nearer), expected)


def test_too_little_memory_is_refused_with_what_it_takes(tiny_bundle):
    with pytest.raises(UsageError, match=r"at least \d+ MiB at a time, found a limit of 1 MiB"):
        load(tiny_bundle, max_memory=2**20)


boxes = st.tuples(st.integers(1, 12), st.integers(1, 12))


@settings(max_examples=60, deadline=None)
@given(boxes, st.integers(1, 40))
def test_the_mask_parts_tile_the_picture(tiles, budget):
    whole = Box(top=0, left=0, bottom=32 * tiles[0], right=32 * tiles[1])
    memory = budget * 10 * 32 * 32 * SMALL.mask_bytes
    covered = np.zeros((whole.bottom, whole.right), int)
    for box, outer in mask_parts(SMALL, whole, memory=memory):
        covered[box.slices] += 1
        assert outer == box.grown(SMALL.mask_halo, within=whole)
        smallest = (box.height, box.width) == (32, 32)
        assert smallest or outer.height * outer.width * SMALL.mask_bytes <= memory
    assert (covered == 1).all()


@settings(max_examples=60, deadline=None)
@given(boxes, st.integers(1, 40), st.integers(0, 99), st.sampled_from([0.0, 1e-4, 0.01, 0.5, 1.0]))
def test_the_restore_parts_hold_every_active_pixel_once(tiles, budget, seed, share):
    mask = np.random.default_rng(seed).random((32 * tiles[0], 32 * tiles[1])) < share
    memory = budget * 32 * 32 * SMALL.restore_bytes
    covered = np.zeros(mask.shape, int)
    for box, outer in restore_parts(SMALL, mask, memory=memory):
        covered[box.slices] += 1
        assert mask[box.slices].any()
        smallest = (box.height, box.width) == (32, 32)
        sites = sites_of(mask[outer.slices])
        area = outer.height * outer.width
        taken = sites[0] * SMALL.restore_bytes + area * SMALL.area_bytes
        assert SMALL.restoration_bytes(sites, area) >= taken
        assert smallest or SMALL.restoration_bytes(sites, area) <= memory
    assert (covered[mask] == 1).all()
    assert covered.max(initial=0) <= 1


def sites_of(mask):
    """Cells of 1, 2, 4 and 8 pixels' side that hold an active pixel."""
    height, width = mask.shape
    return [
        int(mask.reshape(height // side, side, width // side, side).any(axis=(1, 3)).sum())
        for side in (1, 2, 4, 8)
    ]


@pytest.mark.parametrize("shape", [SMALL, BASE])
def test_the_smallest_part_is_enough_however_pixels_lie(shape):
    side = 32 + 2 * shape.restore_halo
    for spacing in (1, 2, 4, 8):
        mask = np.zeros((side, side), bool)
        mask[::spacing, ::spacing] = True
        assert shape.restoration_bytes(sites_of(mask), side**2) <= smallest_memory(shape)


MEASURED = """
import re, sys
from pathlib import Path
import numpy as np
from m2a.runtime import load

def of(name):
    return 1024 * int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

deblurrer = load(None, max_memory=200 * 2**20)
image = np.random.default_rng(0).integers(0, 256, (1024, 2048, 3), dtype=np.uint8)
mask = np.zeros(image.shape[:2], bool)
mask[:40, :40] = True
deblurrer(image, mask=mask)
before = of("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
mask[:] = False
mask[::int(sys.argv[1]), ::int(sys.argv[1])] = True
deblurrer(image, mask=mask)
print(of("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("spacing", [4, 8])
def test_scattered_pixels_keep_to_the_memory(spacing):
    """It took 511 and 321 MiB when coarse sites were not counted, as if pixels lay together."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(spacing)], capture_output=True, text=True, check=True
    )
    # The picture, its mask and the answer come on top of what the graphs take.
    assert int(done.stdout) < 260 * 2**20


def test_two_far_corners_do_not_make_one_large_part():
    mask = np.zeros((3200, 4000), bool)
    mask[:4, :4] = mask[-4:, -4:] = True
    memory = 32 * 2**20
    parts = list(restore_parts(SMALL, mask, memory=memory))
    assert len(parts) == 2
    assert all(outer.height * outer.width * SMALL.area_bytes < memory for _, outer in parts)


def test_a_window_equals_that_part_of_the_padded_picture():
    for shape, dtype in [((1, 1, 3), np.uint8), ((37, 70, 4), np.uint16), ((33, 65), np.float64)]:
        values = np.random.default_rng(3).random(shape)
        top = 1 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
        colour = check_pixels((values * top).astype(dtype))
        whole, padded = pad_image(colour.to_float()), PaddedPicture(colour)
        height, width = padded.box.height, padded.box.width
        assert whole.shape[:2] == (height + 4, width + 4)
        for box in (
            padded.box,
            Box(top=0, left=0, bottom=32, right=32),
            Box(top=height - 32, left=width - 32, bottom=height, right=width),
        ):
            part = whole[box.top : box.bottom + 4, box.left : box.right + 4]
            found = padded.surroundings(box)
            assert found.flags.c_contiguous
            assert found.dtype == dtype
            assert to_unit(found, padded.scale).tobytes() == part.tobytes()
