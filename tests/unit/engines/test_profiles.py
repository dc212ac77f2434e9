"""Optimization profiles: what the buckets hold, and which one a picture takes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from m2a.engines.profiles import MAX_CELLS, choose_profile, default_profiles
from m2a.errors import EngineError
from m2a.graphs.contract import CONTRACTS
from m2a.runtime.sites import build_sites, dilate


def sizes_of(mask):
    """The dynamic dimensions of the restoration graph's inputs for a mask."""
    sites = build_sites(mask)
    sizes = {f"N{level}": len(sites.tables[f"neighbours_{level}"]) for level in range(4)}
    return {**sizes, "P2": len(sites.tables["site_map"])}


def blobs(height, width, count, *, radius, seed=0):
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), bool)
    mask.flat[rng.integers(mask.size, size=count)] = True
    return dilate(mask, radius)


@pytest.mark.parametrize("graph", CONTRACTS)
def test_every_bucket_ascends_and_holds_the_one_before(graph):
    profiles = default_profiles(graph)
    assert len({profile.name for profile in profiles}) == len(profiles) >= 2
    for profile in profiles:
        names = {side for port in CONTRACTS[graph].inputs for side in port.shape}
        assert set(profile.sizes) == {name for name in names if isinstance(name, str)}
        for smallest, typical, largest in profile.sizes.values():
            assert 0 < smallest <= typical <= largest
    for small, large in itertools.pairwise(profiles):
        assert all(small.sizes[name][2] <= large.sizes[name][2] for name in small.sizes)


@pytest.mark.parametrize("graph", CONTRACTS)
def test_shapes_follow_the_contract(graph):
    for profile in default_profiles(graph):
        for port in CONTRACTS[graph].inputs:
            shapes = profile.shapes(port.name)
            assert len(shapes) == 3
            for which, shape in enumerate(shapes):
                assert len(shape) == len(port.shape)
                for side, found in zip(port.shape, shape, strict=True):
                    expected = profile.sizes[side][which] if isinstance(side, str) else side
                    assert found == expected


@pytest.mark.parametrize(("count", "expected"), [(20, 0), (400, 1), (3000, 2)])
def test_blobs_take_the_first_bucket_that_holds_them(count, expected):
    mask = blobs(1440, 2176, count, radius=4)
    profiles = default_profiles("restore")
    chosen = choose_profile(profiles, sizes_of(mask))
    assert chosen == expected
    assert profiles[chosen].sizes["N0"][2] >= mask.sum()


def test_scattered_pixels_take_a_larger_bucket_than_as_many_in_blobs():
    profiles = default_profiles("restore")
    rng = np.random.default_rng(1)
    scattered = np.zeros((1024, 1024), bool)
    scattered.flat[rng.choice(scattered.size, 16_000, replace=False)] = True
    solid = np.zeros((1024, 1024), bool)
    solid[:125, :128] = True
    assert choose_profile(profiles, sizes_of(solid)) == 0
    assert choose_profile(profiles, sizes_of(scattered)) > 0


@pytest.mark.parametrize("count", [1, 100, 1000, 100_000])
def test_a_mask_dilated_by_3_has_at_most_half_the_sites_with_every_level(count):
    """What the buckets assume."""
    sizes = sizes_of(blobs(512, 512, count, radius=3, seed=count))
    assert all(sizes[f"N{level}"] <= max(1, sizes["N0"] >> level) for level in range(4))


def test_what_no_bucket_holds_is_named_with_the_limit():
    sizes = {"N0": 2_000_000, "N1": 500_000, "N2": 125_000, "N3": 40_000, "P2": MAX_CELLS}
    with pytest.raises(EngineError, match=r"N0 = 2000000 \(at most 1048576\)"):
        choose_profile(default_profiles("restore"), sizes)
    with pytest.raises(EngineError, match=r"W = 8192 \(at most 4096\)"):
        choose_profile(default_profiles("mask"), {"H": 64, "W": 8192})
