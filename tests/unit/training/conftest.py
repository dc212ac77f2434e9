"""Fixtures that the tests of training share."""

from __future__ import annotations

import pytest


@pytest.fixture
def pool(tmp_path):
    from pools import darkened_pool

    return darkened_pool(tmp_path / "pool")
