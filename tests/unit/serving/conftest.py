"""Services that the tests of a file share."""

from __future__ import annotations

import pytest
from pictures import noise, pillow
from service import Inverting, running


@pytest.fixture(scope="module")
def inverting():
    return Inverting()


@pytest.fixture(scope="module")
def client(inverting):
    """A client of a service whose model inverts the left half of a picture."""
    with running(inverting) as client:
        yield client


@pytest.fixture(scope="session")
def jpeg():
    return pillow(noise(3, 8, height=48, width=64), "JPEG", quality=80)
