"""The whole pipeline of a GPU, on the CPU: its kernels, and ONNX Runtime for the engines."""

from __future__ import annotations

import numpy as np
import pytest
from emulated_device import OrtEngine, at
from engine_cases import load_gathering
from masks import draw_mask
from PIL import Image

from m2a.errors import BackendError, ImageError, UsageError
from m2a.runtime.bundle import open_bundle
from m2a.runtime.verify import verify

KINDS = [
    (np.uint8, (50, 70)),
    (np.uint8, (50, 70, 1)),
    (np.uint8, (33, 64, 2)),
    (np.uint8, (50, 70, 3)),
    (np.uint8, (64, 96, 4)),
    (np.uint16, (50, 70, 3)),
    (np.float32, (50, 70, 3)),
    (np.float32, (50, 70, 4)),
    (np.float64, (50, 70, 4)),
    (np.float64, (50, 70)),
    (np.float16, (50, 70, 3)),
]


def picture(dtype=np.uint8, shape=(50, 70, 3), seed=0):
    values = np.random.default_rng(seed).random(shape)
    if np.dtype(dtype).kind == "f":
        return values.astype(dtype)
    return np.rint(values * np.iinfo(dtype).max).astype(dtype)


def assert_same(found, expected):
    """Bit for bit: the same graphs on the same numbers."""
    assert np.array_equal(found.mask, expected.mask)
    assert found.mask.dtype == np.bool_
    assert found.image.dtype == expected.image.dtype
    assert np.array_equal(found.image, expected.image)
    assert np.array_equal(found.motion, expected.motion, equal_nan=True)
    assert found.motion.dtype == np.float32
    assert found.coverage == pytest.approx(expected.coverage)
    if expected.probability is None:
        assert found.probability is None
    else:
        assert np.array_equal(found.probability, expected.probability)


@pytest.mark.parametrize(("dtype", "shape"), KINDS)
@pytest.mark.parametrize("given", [True, False])
def test_the_result_is_that_of_the_cpu_bit_for_bit(
    open_on_device, tiny_bundle, dtype, shape, given
):
    image = picture(dtype, shape)
    mask = draw_mask("random", *shape[:2], seed=3) if given else None
    expected = load_gathering(tiny_bundle, dilate=2)(image, mask=mask)
    assert expected.mask.sum() > 0
    assert_same(open_on_device(dilate=2)(image, mask=mask), expected)


@pytest.mark.parametrize("ensemble", [2, 4, 8])
def test_an_ensemble_is_that_of_the_cpu(open_on_device, tiny_bundle, ensemble):
    """Under a given mask bit for bit; the probability is rounded by another logarithm."""
    image, mask = picture(), draw_mask("random", 50, 70, seed=3)
    settings = {"ensemble": ensemble, "dilate": 2}
    on_cpu, found = load_gathering(tiny_bundle, **settings), open_on_device(**settings)
    assert_same(found(image, mask=mask), on_cpu(image, mask=mask))
    once = load_gathering(tiny_bundle, dilate=2)
    assert (on_cpu(image, mask=mask).image != once(image, mask=mask).image).any()
    expected = on_cpu(image).probability
    assert np.abs(found(image).probability - expected).max() <= 1e-6
    assert np.abs(once(image).probability - expected).max() > 0.01


@pytest.mark.parametrize("kind", ["single", "corners", "border", "full", "checkerboard", "rows"])
def test_masks_of_all_kinds(open_on_device, tiny_bundle, kind):
    image, mask = picture(), draw_mask(kind, 50, 70, seed=6)
    assert_same(open_on_device()(image, mask=mask), load_gathering(tiny_bundle)(image, mask=mask))


@pytest.mark.parametrize("dilate", [0, 1, 100])
def test_thresholds_and_dilations_are_the_same(open_on_device, tiny_bundle, dilate):
    image = picture()
    high = float(np.quantile(load_gathering(tiny_bundle)(image).probability, 0.999))
    settings = {"threshold": high, "dilate": dilate}
    expected = load_gathering(tiny_bundle, **settings)(image)
    assert expected.mask.any()
    assert_same(open_on_device(**settings)(image), expected)


def test_numbers_of_any_type_are_taken(open_on_device):
    """A kernel reads bits: 1 for 1.0 would be almost zero, and all pixels active."""
    for one in (1, 1.0, np.float32(1), np.float64(1)):
        assert not open_on_device(threshold=one, dilate=np.int64(1))(picture()).mask.any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (1, 40, 3), (33, 1, 4), (2, 2, 2)])
def test_the_smallest_pictures(open_on_device, tiny_bundle, shape):
    image, mask = picture(shape=shape), np.ones(shape[:2], bool)
    assert_same(open_on_device()(image, mask=mask), load_gathering(tiny_bundle)(image, mask=mask))


@pytest.mark.parametrize("mask", [np.zeros((50, 70), bool), None])
def test_nothing_to_restore_returns_the_input(open_on_device, mask):
    deblurrer = open_on_device(threshold=1.0)
    image = picture()
    result = deblurrer(image, mask=mask)
    assert np.array_equal(result.image, image)
    assert not result.mask.any()
    assert np.isnan(result.motion).all()
    assert (result.probability is None) == (mask is not None)


def test_memory_is_reused_and_what_was_returned_stays(open_on_device, tiny_bundle, device):
    """Large, small, large, of other types: nothing of the last picture shows in the next."""
    deblurrer, on_cpu = open_on_device(), load_gathering(tiny_bundle)
    kept = []
    for seed, (dtype, shape) in enumerate(
        [
            (np.uint8, (70, 100, 3)),
            (np.uint16, (20, 30)),
            (np.uint8, (40, 33, 4)),
            (np.float32, (64, 90, 3)),
            (np.uint8, (70, 100, 3)),
        ]
    ):
        image, mask = picture(dtype, shape, seed), draw_mask("random", *shape[:2], seed=seed)
        kept.append((deblurrer(image, mask=mask), on_cpu(image, mask=mask)))
        kept.append((deblurrer(image), on_cpu(image)))
    for found, expected in kept:
        assert_same(found, expected)
    held = sum(not memory.freed for memory in device.allocations)
    before = len(device.allocations)
    deblurrer(picture(shape=(70, 100, 3)), mask=draw_mask("random", 70, 100, seed=0))
    assert len(device.allocations) == before
    assert held < before  # something grew, and what it outgrew was given back


def test_an_ensemble_waits_no_more_often(open_on_device, device):
    image, mask = picture(), draw_mask("random", 50, 70, seed=3)
    waits = []
    for ensemble in (1, 8):
        deblurrer, before = open_on_device(ensemble=ensemble), device.waits
        deblurrer(image, mask=mask)
        waits.append(device.waits - before)
    assert waits[0] == waits[1] > 0


def test_only_the_counts_come_back_in_between_and_one_piece_at_the_end(open_on_device, device):
    open_on_device(dilate=2)(picture())
    counts, results = device.downloads
    assert counts == 16
    assert results > 50 * 70 * 3
    assert device.waits == 2


def test_the_engines_get_the_contracts_ports(open_on_device, tiny_graphs, monkeypatch):
    enqueued = []
    enqueue = OrtEngine.enqueue

    def keep(self, ports):
        enqueued.append({name: tensor.shape for name, tensor in ports.items()})
        enqueue(self, ports)

    monkeypatch.setattr(OrtEngine, "enqueue", keep)
    open_on_device(dilate=2)(picture())
    for ports, model in zip(enqueued, tiny_graphs.values(), strict=True):
        values = [*model.graph.input, *model.graph.output]
        assert set(ports) == {value.name for value in values}
        for value in values:
            dims = value.type.tensor_type.shape.dim
            assert len(dims) == len(ports[value.name]), value.name
            for dim, side in zip(dims, ports[value.name], strict=True):
                assert dim.dim_value in (0, side), value.name


def test_stages_are_timed_in_order(open_on_device, tmp_path):
    Image.fromarray(picture()).save(tmp_path / "photo.png")
    result = open_on_device(dilate=2)(tmp_path / "photo.png")
    assert list(result.seconds) == ["decode", "upload", "mask", "restore", "download"]
    assert result.backend == "emulated"


def test_the_input_is_never_modified(open_on_device):
    image, mask = picture(), draw_mask("random", 50, 70, seed=3)
    before, mask_before = image.copy(), mask.copy()
    result = open_on_device()(image, mask=mask)
    result.image[:] = 0
    result.mask[:] = True
    assert np.array_equal(image, before)
    assert np.array_equal(mask, mask_before)


def test_a_read_only_view_of_any_strides_is_taken(open_on_device, tiny_bundle):
    image = picture(shape=(100, 70, 3))[::2, ::-1, ::-1]
    image.flags.writeable = False
    mask = np.asfortranarray(draw_mask("random", 50, 70, seed=3))
    assert_same(open_on_device()(image, mask=mask), load_gathering(tiny_bundle)(image, mask=mask))


def test_what_does_not_fit_is_refused_as_on_the_cpu(open_on_device):
    deblurrer = open_on_device()
    with pytest.raises(UsageError, match=r"expected bool\[50, 70\]"):
        deblurrer(picture(), mask=np.ones((70, 50), bool))
    with pytest.raises(ImageError, match="found"):
        deblurrer(np.zeros(5, np.uint8))
    with pytest.raises(ImageError, match=r"none\.png"):
        deblurrer("none.png")


@pytest.mark.parametrize("output", ["residual", "motion", "mask"])
def test_results_that_are_not_finite_are_an_error(open_on_device, output):
    class Broken(OrtEngine):
        def enqueue(self, ports):
            super().enqueue(ports)
            if output in ports:
                at(ports[output], np.float32)[-1, -1] = np.nan

    deblurrer = open_on_device(engine=Broken)
    with pytest.raises(BackendError, match="not finite"):
        deblurrer(picture(), mask=None if output == "mask" else np.ones((50, 70), bool))


def test_after_a_failure_the_next_picture_is_deblurred(
    open_on_device, tiny_bundle, device, monkeypatch
):
    deblurrer, mask = open_on_device(), draw_mask("random", 50, 70, seed=3)
    enqueue = OrtEngine.enqueue

    def fails(self, ports):
        raise BackendError("out of memory")

    monkeypatch.setattr(OrtEngine, "enqueue", fails)
    waits = device.waits
    with pytest.raises(BackendError, match="out of memory"):
        deblurrer(picture(), mask=mask)
    assert device.waits > waits + 1  # for the counts, and for what was queued before it failed
    monkeypatch.setattr(OrtEngine, "enqueue", enqueue)
    assert_same(deblurrer(picture(), mask=mask), load_gathering(tiny_bundle)(picture(), mask=mask))


def test_single_stages_and_verify_work_on_it(open_on_device, tiny_bundle):
    found = verify(open_bundle(tiny_bundle), open_on_device())
    assert found.failed is None
    assert found.backend == "emulated"
