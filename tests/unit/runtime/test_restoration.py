"""What a graph returns is looked at before it is used, dense or gathered."""

from __future__ import annotations

import numpy as np
import pytest

from m2a.errors import BackendError
from m2a.runtime.ensemble import turns_of
from m2a.runtime.parts import NetworkShape
from m2a.runtime.pixels import check_pixels
from m2a.runtime.restoration import DenseRestoration, GatheredRestoration, all_finite
from m2a.runtime.stopwatch import Stopwatch
from m2a.runtime.windows import PaddedPicture
from m2a.runtime.workers import ALONE

NETWORK = NetworkShape(width=8, blocks=(1, 1, 1, 1), mask_stem_width=8, mask_blocks=(0, 0, 0, 0))
SETTINGS = {"max_memory": 2**30, "workers": ALONE}


class Returning:
    """A runner whose outputs are ones, but for the first value of one of them in one run."""

    backend = "made up"

    def __init__(self, name, value, *, in_run=1):
        self.name, self.value = name, value
        self.runs_until = in_run

    def run(self, feeds):
        self.runs_until -= 1
        if "mask" in feeds:
            height, width = feeds["mask"].shape[2:]
            shapes = {"residual": (1, 3, height, width), "motion": (1, 4, height // 4, width // 4)}
        else:
            rows, cells = len(feeds["neighbours_0"]), len(feeds["neighbours_2"])
            shapes = {"residual": (rows, 3), "motion": (cells, 4)}
        outputs = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
        if not self.runs_until:
            outputs[self.name].flat[0] = self.value
        return outputs


@pytest.mark.parametrize("name", ["residual", "motion"])
@pytest.mark.parametrize("kind", ["gathered", "dense"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2.0])
def test_what_is_no_number_is_refused(kind, name, value):
    runner = Returning(name, value)
    restoration = (
        GatheredRestoration(runner, NETWORK, **SETTINGS)
        if kind == "gathered"
        else DenseRestoration(lambda: runner, NETWORK, **SETTINGS)
    )
    picture = PaddedPicture(check_pixels(np.zeros((20, 30, 3), np.uint8)))
    parts = restoration.parts(picture, np.ones((20, 30), bool), Stopwatch())
    if value == 2:
        (part,) = parts
        assert len(part.pixels) == 600
        assert getattr(part, name).flat[0] == 2
    else:
        with pytest.raises(BackendError, match="made up returned values that are not finite"):
            list(parts)


@pytest.mark.parametrize("kind", ["gathered", "dense"])
def test_it_is_refused_in_a_later_turn_too(kind):
    runner = Returning("residual", np.nan, in_run=3)
    settings = {**SETTINGS, "turns": turns_of(4)}
    restoration = (
        GatheredRestoration(runner, NETWORK, **settings)
        if kind == "gathered"
        else DenseRestoration(lambda: runner, NETWORK, **settings)
    )
    # Of sides without padding, whose values nobody looks at.
    picture = PaddedPicture(check_pixels(np.zeros((32, 64, 3), np.uint8)))
    with pytest.raises(BackendError, match="made up returned values that are not finite"):
        list(restoration.parts(picture, np.ones((32, 64), bool), Stopwatch()))


def test_one_value_among_many_is_noticed():
    values = np.ones((1000, 1000), np.float32)
    assert all_finite(values)
    for wrong in (np.nan, np.inf, -np.inf):
        values[999, 123] = wrong
        assert not all_finite(values)
