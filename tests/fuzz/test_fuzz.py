"""The fuzz targets on a few hundred inputs, so that the suite sees what atheris would see first.

`derandomize`: the same inputs each time, so that a change is to blame for what fails.
"""

from __future__ import annotations

import logging

import pytest
import targets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FEW = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(autouse=True)
def _silence():
    """libvips tells a log what it thinks of each damaged file."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_the_seeds_are_read(name):
    for seed in targets.seeds(name):
        targets.TARGETS[name](seed)


def _damaged(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A whole input of which a few bytes were replaced, removed or doubled."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        if not data:
            break
        place = draw(st.integers(0, len(data) - 1))
        kind = draw(st.sampled_from(["byte", "word", "cut", "remove", "double"]))
        if kind == "byte":
            data[place] = draw(st.integers(0, 255))
        elif kind == "word":
            data[place : place + 4] = draw(st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\x7f" * 4]))
        elif kind == "cut":
            del data[place:]
        elif kind == "remove":
            del data[place : place + draw(st.integers(1, 40))]
        else:
            data[place:place] = data[place : place + draw(st.integers(1, 40))]
    return bytes(data)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_damaged_inputs(name):
    seeds = targets.seeds(name)

    @FEW
    @given(data=st.data())
    def check(data):
        targets.TARGETS[name](data.draw(st.composite(_damaged)(seeds)))

    check()


@pytest.mark.parametrize("name", ["manifest", "sidecar"])
def test_documents_with_odd_values(name):
    @FEW
    @given(st.binary(max_size=40))
    def check(data):
        targets.TARGETS[name](b"\0" + data)

    check()


@pytest.mark.parametrize("name", targets.TARGETS)
def test_any_bytes(name):
    @FEW
    @given(st.binary(max_size=200))
    def check(data):
        targets.TARGETS[name](data)

    check()
