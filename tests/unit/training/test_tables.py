"""The tables in torch: NumPy's, table by table."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from masks import KINDS, draw_mask, masks
from random_network import tables_of

from m2a.runtime.sites import build_sites, pad_mask
from m2a.runtime.sites import dilate as dilate_array
from m2a.training.tables import build_tables, dilate


def assert_equal_tables(mask):
    sites = build_sites(mask)
    patches = np.zeros((len(sites.pixels), 75), np.float32)
    expected = tables_of(sites, patches)
    found = build_tables(torch.from_numpy(mask), torch.from_numpy(patches))
    for name, first, second in zip(expected._fields, found, expected, strict=True):
        pairs = zip(first, second, strict=True) if isinstance(first, tuple) else [(first, second)]
        for one, other in pairs:
            assert one.dtype == other.dtype, name
            assert torch.equal(one, other), name


@pytest.mark.parametrize("kind", KINDS)
def test_every_table_is_numpys(kind):
    assert_equal_tables(draw_mask(kind, 96, 64, seed=1))


@given(masks(70))
def test_every_table_of_any_mask_is_numpys(mask):
    assert_equal_tables(pad_mask(mask))


@pytest.mark.parametrize("radius", [0, 1, 2, 5, 8, 100])
def test_dilation_is_numpys_mask_by_mask(radius):
    stack = np.stack([draw_mask(kind, 40, 33, seed=2) for kind in KINDS])
    found = dilate(torch.from_numpy(stack), radius).numpy()
    for one, mask in zip(found, stack, strict=True):
        assert np.array_equal(one, dilate_array(mask, radius))
