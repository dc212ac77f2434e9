"""Pictures to time."""

from __future__ import annotations

import numpy as np
import pytest

from m2a.benchmark.scenes import blob_mask, noise_picture


@pytest.mark.parametrize("coverage", [1e-9, 0.013, 0.5, 1.0])
def test_a_mask_has_exactly_the_coverage_that_was_asked_for(coverage):
    mask = blob_mask(90, 130, coverage)
    assert mask.shape == (90, 130)
    assert mask.sum() == max(1, round(coverage * 90 * 130))


def test_a_mask_grows_with_the_coverage():
    small, large = (blob_mask(90, 130, coverage, seed=3) for coverage in (0.1, 0.3))
    assert (small <= large).all()


def test_a_mask_is_a_few_large_blobs_and_no_noise():
    mask = blob_mask(400, 600, 0.1)
    inner = mask[1:-1, 1:-1]
    neighbours = mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    assert (inner & neighbours).sum() > 0.9 * inner.sum()


@pytest.mark.parametrize("coverage", [0.0, -0.1, 1.01, float("nan")])
def test_a_coverage_out_of_range_is_refused(coverage):
    with pytest.raises(ValueError, match="must lie in"):
        blob_mask(10, 10, coverage)


def test_a_noise_picture_is_the_same_for_the_same_seed():
    first, again, other = (noise_picture(20, 30, seed=seed) for seed in (1, 1, 2))
    assert first.dtype == np.uint8
    assert first.shape == (20, 30, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
