"""A checkpoint, measured in torch, has the figures of its bundle."""

from __future__ import annotations

import numpy as np
import pytest
from data_sets import save

from m2a.errors import UsageError
from m2a.evaluation import evaluate, find_pairs
from m2a.export.masked_dense import MaskedDenseDeblurrer
from m2a.runtime import load

TOLERANCES = {
    "psnr_after": 0.01,
    "ssim_after": 1e-4,
    "psnr_whole_after": 0.01,
    "ssim_whole_after": 1e-4,
    "iou": 1e-3,
    "precision": 1e-3,
    "recall": 1e-3,
    "visible_iou": 1e-3,
    "coverage": 1e-3,
    "angle_error": 0.1,
}
"""The forms differ by at most 1e-4: a sample in thousands is rounded to its neighbour, and a
pixel whose probability lies at the threshold may fall on its other side."""

SIZES = ((70, 101), (64, 96))


@pytest.fixture(scope="module")
def network(tiny_network):
    return tiny_network.eval()


@pytest.fixture(scope="module")
def threshold(network):
    """One at which some of a picture of noise is active, and some is not."""
    picture = np.random.default_rng(9).integers(0, 256, (96, 96, 3)).astype(np.uint8)
    return float(np.quantile(MaskedDenseDeblurrer(network)(picture).probability, 0.97))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("known")
    (folder / "motion").mkdir()
    for number, (height, width) in enumerate(SIZES):
        rng = np.random.default_rng(number)
        sharp = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        mask = np.zeros((height, width), np.uint8)
        mask[10:50, 20:60] = 255
        blurred = np.where(mask[..., None] > 0, np.roll(sharp, 1, axis=1) // 2 + sharp // 2, sharp)
        pictures = {"blurred": blurred, "sharp": sharp, "mask": mask, "visible": mask}
        for part, picture in pictures.items():
            save(folder / part / f"{number}.png", picture)
        cells = (-(-height // 4), -(-width // 4), 4)
        np.save(folder / "motion" / f"{number}.npy", rng.normal(0, 9, cells).astype(np.float32))
    return find_pairs(folder)


def test_a_checkpoint_and_its_bundle_agree(network, tiny_bundle, threshold, pairs):
    settings = {"threshold": threshold, "dilate": 1}
    checkpoint = evaluate(MaskedDenseDeblurrer(network, **settings), pairs)
    bundle = evaluate(load(tiny_bundle, **settings), pairs)
    for one, other in zip(checkpoint.scores, bundle.scores, strict=True):
        assert 0.1 < one.coverage < 0.95
        assert abs(one.gain) > 0.1
        for figure, tolerance in TOLERANCES.items():
            found, expected = getattr(one, figure), getattr(other, figure)
            assert found == pytest.approx(expected, abs=tolerance), figure


def test_the_tolerance_tells_another_mask(network, tiny_bundle, threshold, pairs):
    wider = evaluate(MaskedDenseDeblurrer(network, threshold=threshold, dilate=2), pairs[:1])
    bundle = evaluate(load(tiny_bundle, threshold=threshold, dilate=1), pairs[:1])
    (one,), (other,) = wider.scores, bundle.scores
    assert abs(one.coverage - other.coverage) > TOLERANCES["coverage"]
    assert abs(one.psnr_after - other.psnr_after) > TOLERANCES["psnr_after"]


def test_what_is_not_restored_is_the_picture_and_has_no_motion(network, threshold):
    picture = np.random.default_rng(1).integers(0, 2**16, (50, 40, 3)).astype(np.uint16)
    result = MaskedDenseDeblurrer(network, threshold=threshold, dilate=0)(picture)
    np.testing.assert_array_equal(result.image[~result.mask], picture[~result.mask])
    assert (result.image[result.mask] != picture[result.mask]).any()
    known = np.isfinite(result.motion).all(axis=2)
    padded = np.pad(result.mask, ((0, 14), (0, 24)))
    np.testing.assert_array_equal(known, padded.reshape(16, 4, 16, 4).any(axis=(1, 3)))


def test_where_nothing_is_found_the_picture_stays(network):
    picture = np.zeros((20, 30), np.uint8)
    result = MaskedDenseDeblurrer(network, threshold=1)(picture)
    assert result.coverage == 0
    np.testing.assert_array_equal(result.image, picture)


def test_a_threshold_of_nothing_is_refused(network):
    with pytest.raises(UsageError, match="threshold"):
        MaskedDenseDeblurrer(network, threshold=0)
