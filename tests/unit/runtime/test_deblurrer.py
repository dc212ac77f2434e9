"""One call: the promises of DESIGN section 7."""

from __future__ import annotations

import numpy as np
import pytest
from masks import draw_mask
from PIL import Image
from random_network import dense_rows

import m2a
from m2a.errors import BackendError, ImageError, UsageError
from m2a.runtime import Deblurrer, load, loading
from m2a.runtime.backends import open_runners
from m2a.runtime.pixels import check_pixels
from m2a.runtime.restoration import DENSE_COVERAGE
from m2a.runtime.windows import PaddedPicture

KINDS = [
    (np.uint8, (50, 70)),
    (np.uint8, (50, 70, 1)),
    (np.uint8, (50, 70, 2)),
    (np.uint8, (50, 70, 3)),
    (np.uint8, (50, 70, 4)),
    (np.uint16, (50, 70, 3)),
    (np.uint16, (50, 70, 4)),
    (np.float32, (50, 70, 3)),
    (np.float32, (50, 70, 4)),
    (np.float64, (50, 70, 3)),
]


def picture(dtype=np.uint8, shape=(50, 70, 3), seed=0):
    values = np.random.default_rng(seed).random(shape)
    if np.dtype(dtype).kind == "f":
        return values.astype(dtype)
    return np.rint(values * np.iinfo(dtype).max).astype(dtype)


@pytest.fixture(scope="module")
def deblurrer(tiny_bundle):
    return load(tiny_bundle, dilate=0)


@pytest.mark.parametrize(("dtype", "shape"), KINDS)
@pytest.mark.parametrize("given", [True, False])
def test_pixels_outside_the_mask_are_the_inputs_bit_for_bit(deblurrer, dtype, shape, given):
    image = picture(dtype, shape)
    mask = draw_mask("random", 50, 70, seed=3) if given else None
    result = deblurrer(image, mask=mask)
    assert 0 < result.mask.sum() < result.mask.size
    assert result.image.dtype == image.dtype
    assert result.image.shape == image.shape
    outside = ~result.mask
    assert result.image[outside].tobytes() == image[outside].tobytes()
    assert not np.array_equal(result.image[result.mask], image[result.mask])


@pytest.mark.parametrize(("dtype", "shape"), [k for k in KINDS if k[1][2:] in ((2,), (4,))])
def test_alpha_is_untouched(deblurrer, dtype, shape):
    image = picture(dtype, shape)
    result = deblurrer(image, mask=np.ones(shape[:2], bool))
    assert np.array_equal(result.image[..., -1], image[..., -1])


@pytest.mark.parametrize(("dtype", "shape"), KINDS)
def test_the_input_is_never_modified(deblurrer, dtype, shape):
    image, mask = picture(dtype, shape), draw_mask("random", 50, 70, seed=3)
    before, mask_before = image.copy(), mask.copy()
    result = deblurrer(image, mask=mask)
    result.image[:] = 0
    result.mask[:] = True
    assert np.array_equal(image, before)
    assert np.array_equal(mask, mask_before)


def test_a_read_only_view_of_any_strides_is_taken(deblurrer):
    image = picture(shape=(100, 70, 3))[::2, ::-1, ::-1]
    image.flags.writeable = False
    mask = draw_mask("random", 50, 70, seed=3)
    expected = deblurrer(np.ascontiguousarray(image), mask=np.ascontiguousarray(mask))
    assert np.array_equal(deblurrer(image, mask=np.asfortranarray(mask)).image, expected.image)


def test_an_empty_mask_returns_the_input(deblurrer):
    image = picture()
    result = deblurrer(image, mask=np.zeros((50, 70), bool))
    assert np.array_equal(result.image, image)
    assert result.image is not image
    assert result.coverage == 0
    assert np.isnan(result.motion).all()


def test_a_prediction_without_blur_returns_the_input(tiny_bundle):
    image = picture()
    result = load(tiny_bundle, threshold=1.0)(image)
    assert not result.mask.any()
    assert np.array_equal(result.image, image)
    assert result.probability.shape == (50, 70)


def test_a_full_mask_works(deblurrer):
    result = deblurrer(picture(), mask=np.ones((50, 70), bool))
    assert result.coverage == 1.0
    # Padding is never active: the cells beyond the picture have no motion.
    assert np.isfinite(result.motion[:13, :18]).all()
    assert np.isnan(result.motion[13:]).all()
    assert np.isnan(result.motion[:, 18:]).all()


def test_a_given_mask_is_taken_as_it_is(tiny_bundle):
    mask = draw_mask("random", 50, 70, seed=3)
    result = load(tiny_bundle, dilate=5)(picture(), mask=mask)
    assert np.array_equal(result.mask, mask)
    assert result.probability is None
    assert result.coverage == pytest.approx(mask.mean())


def test_a_predicted_mask_is_the_probability_thresholded_and_dilated(tiny_bundle):
    image = picture()
    high = float(np.quantile(load(tiny_bundle)(image).probability, 0.999))
    result = load(tiny_bundle, threshold=high, dilate=2)(image)
    expected = np.zeros((50, 70), bool)
    for y, x in np.argwhere(result.probability >= high):
        expected[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3] = True
    assert expected.any()
    assert np.array_equal(result.mask, expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (1, 40, 3), (33, 1, 4), (2, 2, 2)])
def test_the_smallest_pictures_work(deblurrer, shape):
    image = picture(shape=shape)
    result = deblurrer(image, mask=np.ones(shape[:2], bool))
    assert result.image.shape == image.shape
    assert deblurrer(image).probability.shape == shape[:2]


@pytest.mark.parametrize("value", [0, 255])
def test_a_picture_of_one_value_works(deblurrer, value):
    image = np.full((64, 64, 3), value, np.uint8)
    result = deblurrer(image, mask=np.ones((64, 64), bool))
    assert np.isfinite(result.motion).all()
    assert np.isfinite(deblurrer(image).probability).all()


@pytest.mark.parametrize(
    "mask",
    [
        np.ones((50, 71), bool),
        np.ones((70, 50), bool),
        np.ones((50, 70, 1), bool),
        np.ones((50, 70), np.uint8),
        np.ones((50, 70), float),
        [[True] * 70] * 50,
    ],
)
def test_a_mask_that_does_not_fit_is_a_misuse(deblurrer, mask):
    with pytest.raises(UsageError, match=r"expected bool\[50, 70\]"):
        deblurrer(picture(), mask=mask)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros(5, np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.int64),
        np.full((4, 4, 3), np.nan, np.float32),
        np.full((4, 4, 3), 2.0, np.float32),
    ],
)
def test_what_is_no_picture_is_refused(deblurrer, image):
    with pytest.raises(ImageError, match="found"):
        deblurrer(image)


@pytest.mark.parametrize("kind", ["random", "border", "single", "full", "corners"])
def test_dense_and_gathered_restore_the_same(deblurrer, kind):
    image, mask = PaddedPicture(check_pixels(picture())), draw_mask(kind, 50, 70, seed=6)
    gathered = deblurrer.restore(image, mask, restoration=deblurrer.gathered)
    dense = deblurrer.restore(image, mask, restoration=deblurrer.dense)
    assert gathered.residual[mask].std() > 0.05
    # The same sums in another order.
    assert np.abs(dense.residual - gathered.residual).max() <= 1e-5
    assert np.array_equal(np.isnan(dense.motion), np.isnan(gathered.motion))
    assert np.nanmax(np.abs(dense.motion - gathered.motion)) <= 48e-5


def test_the_dense_restorer_is_opened_where_next_to_nothing_is_left_out(tiny_bundle, monkeypatch):
    opened = []

    def opening(graphs, **options):
        opened.append(len(graphs))
        return open_runners(graphs, **options)

    monkeypatch.setattr(loading, "open_runners", opening)
    deblurrer = load(tiny_bundle)
    mask = np.zeros((50, 70), bool)
    mask[: int(50 * DENSE_COVERAGE) - 1] = True
    assert "tables" in deblurrer(picture(), mask=mask).seconds
    assert opened == [2]
    mask[: int(50 * DENSE_COVERAGE) + 1] = True
    for _ in range(2):
        assert "tables" not in deblurrer(picture(), mask=mask).seconds
    assert opened == [2, 1]


@pytest.mark.parametrize("kind", ["random", "border", "single", "full"])
def test_the_result_is_the_torch_networks(deblurrer, tiny_network, kind):
    image, mask = picture(), draw_mask(kind, 50, 70, seed=6)
    result = deblurrer(image, mask=mask)
    planes = image.astype(np.float32) / np.float32(255)
    dense = dense_rows(tiny_network, planes, mask)
    exact = np.clip(planes[mask] + dense.residual.numpy(), 0, 1).astype(np.float64) * 255
    # Half a level of rounding; 1e-4 is the limit of verify, in units of the range.
    assert np.abs(result.image[mask] - exact).max() <= 0.5 + 255e-4
    motion = result.motion[np.isfinite(result.motion).all(axis=2)]
    assert np.abs(motion - dense.motion.numpy()).max() / 48 <= 1e-4


def test_every_stage_is_timed_in_order(deblurrer):
    result = deblurrer(picture())
    stages = ["pad", "mask", "threshold", "tables", "patches", "restore", "scatter"]
    assert list(result.seconds) == stages
    assert all(seconds >= 0 for seconds in result.seconds.values())
    assert result.backend == "ort-cpu"


def test_a_given_mask_skips_the_mask_graph(deblurrer):
    result = deblurrer(picture(), mask=np.ones((50, 70), bool))
    assert not {"mask", "threshold"} & set(result.seconds)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("convert", [str, lambda path: path])
def test_the_path_of_a_photograph_is_taken(deblurrer, tmp_path, mode, convert):
    image = picture(shape=(50, 70, len(mode)))
    Image.fromarray(image).save(tmp_path / "photo.png")
    mask = draw_mask("random", 50, 70, seed=3)
    result = deblurrer(convert(tmp_path / "photo.png"), mask=mask)
    assert np.array_equal(result.image, deblurrer(image, mask=mask).image)
    assert next(iter(result.seconds)) == "decode"


def test_a_missing_photograph_is_named(deblurrer, tmp_path):
    with pytest.raises(ImageError, match=r"none\.png"):
        deblurrer(tmp_path / "none.png")


def test_another_mask_of_the_same_bundle_leaves_the_first_as_it_was(deblurrer):
    image = picture()
    before = deblurrer(image).mask
    wider = deblurrer.with_mask_settings(dilate=3)
    assert (wider.dilate, wider.threshold) == (3, deblurrer.threshold)
    assert wider(image).mask.sum() > before.sum()
    np.testing.assert_array_equal(deblurrer(image).mask, before)
    for wrong in ({"threshold": 0.0}, {"threshold": 1.5}, {"dilate": -1}):
        with pytest.raises(UsageError, match="must"):
            deblurrer.with_mask_settings(**wrong)


def test_the_public_names_are_those_of_the_runtime():
    assert m2a.load is load
    assert m2a.Deblurrer is Deblurrer
    with pytest.raises(AttributeError, match="no attribute 'unload'"):
        m2a.unload  # noqa: B018


def test_a_mask_that_is_not_a_number_is_no_sharp_picture(tiny_bundle, monkeypatch):
    deblurrer = load(tiny_bundle)
    run = deblurrer._mask.run

    def overflowing(feeds):
        outputs = run(feeds)
        outputs["mask"][0, 0, 3, 5] = np.nan
        return outputs

    monkeypatch.setattr(deblurrer._mask, "run", overflowing)
    with pytest.raises(BackendError, match="not finite"):
        deblurrer(picture())
