"""I/O binding, in the CPU's memory: the calls are those that CUDA's gets."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from masks import draw_mask

from m2a.errors import BackendError
from m2a.runtime import backends
from m2a.runtime.backends import BACKENDS, open_runners
from m2a.runtime.bundle import GRAPHS, open_bundle
from m2a.runtime.loading import load


@pytest.fixture
def bound(monkeypatch):
    """`ort-cpu`, with its inputs and outputs bound as those of `ort-cuda` are."""
    memory = {"ort-cpu": replace(BACKENDS["ort-cpu"], memory="cpu")}
    monkeypatch.setattr(backends, "BACKENDS", {**BACKENDS, **memory})


@pytest.fixture
def plain(tiny_bundle):
    """Opened before anything is bound."""
    return load(tiny_bundle, dilate=2)


@pytest.fixture
def created(monkeypatch):
    """The shapes of the buffers that were made."""
    shapes = []
    create = onnxruntime.OrtValue.ortvalue_from_shape_and_type

    def keep(shape, *arguments):
        shapes.append(tuple(shape))
        return create(shape, *arguments)

    monkeypatch.setattr(onnxruntime.OrtValue, "ortvalue_from_shape_and_type", keep)
    return shapes


def picture(seed=0, shape=(50, 70, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def feeds(seed=0, side=64):
    return {"image": np.random.default_rng(seed).random((1, 3, side, side), dtype=np.float32)}


def open_mask(tiny_bundle):
    graphs = [open_bundle(tiny_bundle).graph(name, precision="fp32") for name in GRAPHS]
    return open_runners(graphs, backend="ort-cpu")[0]


def test_cuda_is_bound():
    assert BACKENDS["ort-cuda"].memory == "cuda"


def test_pictures_of_any_sizes_give_what_a_plain_session_gives(plain, bound, tiny_bundle):
    """The same, larger, smaller, the same again: no buffer keeps anything of the last."""
    deblurrer = load(tiny_bundle, dilate=2)
    for seed, shape in enumerate([(50, 70), (50, 70), (96, 70), (20, 30), (50, 70)]):
        for mask in (None, draw_mask("random", *shape, seed=seed)):
            found = deblurrer(picture(seed, (*shape, 3)), mask=mask)
            expected = plain(picture(seed, (*shape, 3)), mask=mask)
            assert np.array_equal(found.image, expected.image)
            assert np.array_equal(found.motion, expected.motion, equal_nan=True)


def test_buffers_stay_while_the_shapes_do(bound, tiny_bundle, created):
    runner = open_mask(tiny_bundle)
    for seed in range(3):
        runner.run(feeds(seed))
    assert created == [(1, 3, 64, 64)]
    runner.run(feeds(side=96))
    runner.run(feeds(side=96))
    assert created == [(1, 3, 64, 64), (1, 3, 96, 96)]


def test_results_are_the_callers_and_feeds_are_left_alone(bound, tiny_bundle):
    runner = open_mask(tiny_bundle)
    first, second = feeds(0), feeds(1)
    before = first["image"].copy()
    one = runner.run(first)["mask"]
    kept = one.copy()
    two = runner.run(second)["mask"]
    assert np.array_equal(one, kept)
    assert not np.array_equal(one, two)
    two[:] = -1
    assert np.array_equal(runner.run(first)["mask"], kept)
    assert np.array_equal(first["image"], before)


def test_after_a_failure_the_buffers_are_made_again(bound, tiny_bundle):
    runner = open_mask(tiny_bundle)
    expected = runner.run(feeds())["mask"]
    with pytest.raises(BackendError, match="ort-cpu failed"):
        runner.run({"image": np.zeros((1, 4, 32, 32), np.float32)})
    assert np.array_equal(runner.run(feeds())["mask"], expected)


def test_two_threads_do_not_share_a_buffer(bound, tiny_bundle):
    runner = open_mask(tiny_bundle)
    expected = [runner.run(feeds(seed))["mask"] for seed in range(4)]
    with ThreadPoolExecutor(4) as executor:
        found = list(executor.map(lambda seed: runner.run(feeds(seed % 4))["mask"], range(16)))
    for seed, mask in enumerate(found):
        assert np.array_equal(mask, expected[seed % 4])
