"""The mean over the turns of a picture is the mean over turned pictures."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from masks import draw_mask

import m2a
from m2a.errors import UsageError
from m2a.runtime.ensemble import ENSEMBLES, logit, mask_turns, sigmoid, turns_of
from m2a.runtime.parts import dense_parts, mask_parts, restore_parts
from m2a.runtime.pixels import check_pixels
from m2a.runtime.sites import pad_mask
from m2a.runtime.verify import verify
from m2a.runtime.windows import PaddedPicture

ROUNDING = 1e-5
"""Of probabilities and residuals: FP32, the same products, in another order."""

SIZE = (96, 160)
"""A multiple of 32: a padded picture that is turned has its padding elsewhere."""

LARGE = (230, 300)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def padded(picture):
    return PaddedPicture(check_pixels(np.ascontiguousarray(picture)))


@pytest.fixture(scope="module")
def once(tiny_bundle):
    return m2a.load(tiny_bundle, dilate=0)


@pytest.fixture(scope="module", params=ENSEMBLES[1:])
def several(request, tiny_bundle):
    return m2a.load(tiny_bundle, dilate=0, ensemble=request.param)


@pytest.fixture
def in_parts(tiny_bundle):
    """Takes parts as small as the halos allow, which are not square."""
    deblurrer = m2a.load(tiny_bundle, dilate=0, ensemble=8)
    for part in (deblurrer, deblurrer.gathered, deblurrer.dense):
        part.max_memory = 2**22
    return deblurrer


@pytest.mark.parametrize("turn", turns_of(8))
def test_what_is_turned_is_turned_back(turn):
    plane = np.arange(5 * 7 * 3).reshape(5, 7, 3)
    assert np.array_equal(turn.undo(turn.apply(plane)), plane)
    assert turn.is_identity == np.array_equal(turn.apply(plane), plane)


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_the_turns_are_all_different_and_one_after_another_is_one_of_them(ensemble):
    plane = np.arange(36).reshape(6, 6)
    found = {turn.apply(plane).tobytes() for turn in turns_of(ensemble)}
    assert len(found) == ensemble
    assert turns_of(ensemble)[0].is_identity
    for one, other in itertools.product(turns_of(ensemble), repeat=2):
        assert one.apply(other.apply(plane)).tobytes() in found


def test_every_second_turn_is_the_mirror_image_of_the_one_before():
    """So a mask graph that sees the mirror image itself need not see those."""
    plane = np.arange(42).reshape(6, 7)
    for ensemble in ENSEMBLES[1:]:
        others = mask_turns(ensemble, mirrored=True)
        assert len(others) == ensemble // 2
        pairs = zip(turns_of(ensemble)[1::2], others, strict=True)
        assert all(np.array_equal(m.apply(plane), t.apply(plane)[:, ::-1]) for m, t in pairs)
        assert mask_turns(ensemble, mirrored=False) == turns_of(ensemble)
    assert mask_turns(1, mirrored=True) == turns_of(1)


def test_the_logit_undoes_the_sigmoid_and_is_finite():
    logits = np.linspace(-15, 15, 61, dtype=np.float32)
    # Close to 1 a probability of f32 tells the logit to a few percent only.
    assert np.allclose(logit(sigmoid(logits)), logits, rtol=0.1, atol=1e-5)
    certain = logit(np.array([0, 1], np.float32))
    assert np.isfinite(certain).all()
    assert certain[0] < -15 < 15 < certain[1]


def test_probabilities_are_those_of_the_mean_logit_of_turned_pictures(once, several):
    picture = noise(*SIZE)
    logits = []
    for turn in turns_of(several.ensemble):
        probability = once.predict(padded(turn.apply(picture)))
        logits.append(turn.undo(np.log(probability / (1 - probability))))
    expected = 1 / (1 + np.exp(-np.mean(logits, axis=0)))
    assert np.abs(expected - once.predict(padded(picture))).max() > 0.05
    assert np.abs(several.predict(padded(picture)) - expected).max() <= ROUNDING


@pytest.mark.parametrize("kind", ["gathered", "dense"])
def test_residuals_are_the_mean_of_those_of_turned_pictures(once, several, kind):
    picture, mask = noise(*SIZE), draw_mask("random", *SIZE, seed=1)
    residuals = []
    for turn in turns_of(several.ensemble):
        turned = np.ascontiguousarray(turn.apply(mask))
        found = once.restore(padded(turn.apply(picture)), turned, restoration=once.gathered)
        residuals.append(turn.undo(found.residual))
    expected = np.mean(residuals, axis=0)
    assert np.abs(expected - residuals[0]).max() > 0.01
    found = several.restore(padded(picture), mask, restoration=getattr(several, kind))
    assert np.abs(found.residual - expected).max() <= ROUNDING
    assert not found.residual[~mask].any()


@pytest.mark.parametrize("kind", ["gathered", "dense"])
def test_the_motion_is_that_of_the_picture_as_it_is(once, several, kind):
    picture, mask = padded(noise(70, 110)), draw_mask("random", 70, 110, seed=2)
    expected, found = (
        one.restore(picture, mask, restoration=getattr(one, kind)).motion for one in (once, several)
    )
    assert np.isfinite(expected).any()
    assert np.array_equal(found, expected, equal_nan=True)


def test_a_turned_picture_gives_the_turned_result(once, tiny_bundle):
    """What no single turn does: all eight together have no preferred direction."""
    deblur = m2a.load(tiny_bundle, ensemble=8)
    picture = noise(*SIZE).astype(np.float32) / 255
    mask = draw_mask("random", *SIZE, seed=4)

    def largest_difference(of):
        straight = of(picture, mask=mask).image
        for turn in turns_of(8)[1:]:
            turned = [np.ascontiguousarray(turn.apply(plane)) for plane in (picture, mask)]
            yield np.abs(turn.undo(of(turned[0], mask=turned[1]).image) - straight).max()

    assert max(largest_difference(deblur)) <= ROUNDING
    assert min(largest_difference(once)) > 0.01


def test_a_mask_does_not_depend_on_the_split(in_parts, tiny_bundle):
    picture = padded(noise(330, 420))
    parts = mask_parts(in_parts.bundle.network, picture.box, memory=in_parts.max_memory)
    assert len(list(parts)) > 3
    expected = m2a.load(tiny_bundle, dilate=0, ensemble=8).predict(picture)
    assert np.abs(in_parts.predict(picture) - expected).max() <= ROUNDING


@pytest.mark.parametrize(("kind", "split"), [("gathered", restore_parts), ("dense", dense_parts)])
def test_a_residual_does_not_depend_on_the_split(in_parts, tiny_bundle, kind, split):
    picture, mask = padded(noise(*LARGE)), draw_mask("random", *LARGE, seed=3)
    memory = in_parts.gathered.max_memory
    assert len(list(split(in_parts.bundle.network, pad_mask(mask), memory=memory))) > 3
    whole = m2a.load(tiny_bundle, dilate=0, ensemble=8)
    expected, found = (
        one.restore(picture, mask, restoration=getattr(one, kind)).residual
        for one in (whole, in_parts)
    )
    assert np.abs(expected).max() > 0.01
    assert np.abs(found - expected).max() <= ROUNDING


def test_pixels_outside_the_mask_stay_and_an_empty_mask_changes_nothing(several):
    picture = noise(70, 110)
    found = several(picture)
    assert 0 < found.coverage < 1
    assert np.array_equal(found.image[~found.mask], picture[~found.mask])
    assert not np.array_equal(found.image, picture)
    nothing = several(picture, mask=np.zeros((70, 110), bool))
    assert np.array_equal(nothing.image, picture)


def test_other_mask_settings_keep_it_and_it_is_told(several):
    other = several.with_mask_settings(threshold=0.25)
    assert other.ensemble == several.ensemble
    assert f"threshold 0.25, dilation 0, mean of {several.ensemble} turns" in repr(other)
    with pytest.raises(AttributeError):
        other.ensemble = 1  # the restorers would not hear of it


def test_stages_are_not_compared_with_those_of_one_turn(several):
    with pytest.raises(UsageError, match="found an ensemble of"):
        verify(several.bundle, several)


@pytest.mark.parametrize("ensemble", [0, 3, 16, -1, 2.0])
def test_another_number_of_turns_is_refused(tiny_bundle, ensemble):
    with pytest.raises(UsageError, match=f"must be 1, 2, 4 or 8, found {ensemble}"):
        m2a.load(tiny_bundle, ensemble=ensemble)
