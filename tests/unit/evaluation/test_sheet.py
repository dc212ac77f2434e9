"""The contact sheet."""

from __future__ import annotations

import numpy as np
import pytest
from data_sets import HEIGHT, WIDTH, noise, save, square
from scores import score_of

from m2a.evaluation import Evaluation, evaluate, find_pairs
from m2a.evaluation.sheet import (
    GAP,
    LEAST,
    LINE,
    MARGIN,
    PREDICTED,
    SIDE,
    TRUE,
    caption,
    choose,
    draw_sheet,
    outline,
    spread,
    viewport,
)
from m2a.runtime import load


@pytest.fixture(scope="module")
def deblurrer(tiny_bundle):
    return load(tiny_bundle)


@pytest.fixture
def pairs(tmp_path):
    """Three pictures; in the last one nothing is blurred."""
    for number, mask in enumerate((square(), square(), square() * 0)):
        sharp = noise(number)
        blurred = np.where(mask[..., None] > 0, sharp // 2, sharp)
        for part, picture in {"blurred": blurred, "sharp": sharp, "mask": mask}.items():
            save(tmp_path / part / f"{number}.png", picture)
    return find_pairs(tmp_path)


def cells(sheet, *, row, column):
    """Blurred, restored and truth of one picture on a sheet of pictures narrower than `LEAST`."""
    top = LINE + row * (LINE + HEIGHT) + LINE
    first = column * (3 * (LEAST + GAP)) + (LEAST - WIDTH) // 2
    lefts = [first + place * (LEAST + GAP) for place in range(3)]
    return [sheet[top : top + HEIGHT, left : left + WIDTH] for left in lefts]


def test_a_picture_stands_there_blurred_restored_and_as_it_was(pairs, deblurrer):
    evaluation = evaluate(deblurrer, pairs)
    sheet = draw_sheet(deblurrer, pairs, evaluation)
    assert sheet.shape == (2 * LINE + HEIGHT, 9 * LEAST + 8 * GAP, 3)
    for column, score in enumerate(evaluation.by_gain()):
        number = int(score.name)
        known = square() * (number < 2)
        picture = np.where(known[..., None] > 0, noise(number) // 2, noise(number))
        blurred, restored, truth = cells(sheet, row=0, column=column)
        result = deblurrer(picture)
        np.testing.assert_array_equal(restored, result.image)
        np.testing.assert_array_equal(truth, noise(number))
        outlined = picture.copy()
        outline(outlined, known > 0, TRUE, by=1)
        outline(outlined, result.probability >= deblurrer.threshold, PREDICTED, by=1)
        np.testing.assert_array_equal(blurred, outlined)


@pytest.mark.parametrize(
    ("count", "names"),
    [(1, "b0"), (3, "b0 b2 b4"), (5, "b0 b1 b2 b3 b4"), (7, "b0 b1 b2 b3 b4 s2 s0"), (99, None)],
)
def test_the_worst_and_the_best_gain_are_on_a_sheet_whatever_else_is(count, names):
    moved = [score_of(name=f"b{n}", psnr_after=20.0 + n) for n in range(5)]
    unblurred = {"psnr_before": None, "psnr_after": None}
    still = [score_of(name=f"s{n}", coverage=n / 10, **unblurred) for n in range(3)]
    evaluation = Evaluation(scores=(*still, *moved))
    expected = names or "b0 b1 b2 b3 b4 s2 s1 s0"
    assert [score.name for score in choose(evaluation, count)] == expected.split()


def test_a_sheet_of_two_leaves_out_the_middle(pairs, deblurrer):
    evaluation = evaluate(deblurrer, pairs)
    drawn = []
    draw_sheet(deblurrer, pairs, evaluation, count=2, progress=drawn.append)
    assert drawn == [1, 2]


def test_a_large_picture_is_scaled_down(tmp_path, deblurrer):
    ramp = np.linspace(0, 255, 2 * SIDE).astype(np.uint8)
    picture = np.repeat(np.tile(ramp, (40, 1))[..., None], 3, axis=2)
    for part in ("blurred", "sharp"):
        save(tmp_path / part / "wide.png", picture)
    save(tmp_path / "mask" / "wide.png", np.full(picture.shape[:2], 255, np.uint8))
    pairs = find_pairs(tmp_path)
    sheet = draw_sheet(deblurrer, pairs, evaluate(deblurrer, pairs))
    assert sheet.shape == (2 * LINE + 20, 3 * SIDE + 2 * GAP, 3)
    truth = sheet[2 * LINE :, -SIDE:].astype(int)
    halved = picture[::2, ::2].astype(int)
    assert np.abs(truth - halved).max() <= 2


def test_an_outline_lies_around_the_mask():
    picture = np.zeros((7, 7, 3), np.uint8)
    mask = np.zeros((7, 7), bool)
    mask[3, 3] = True
    outline(picture, mask, PREDICTED, by=1)
    drawn = (picture == PREDICTED).all(axis=2)
    assert drawn[2:5, 2:5].sum() == drawn.sum() == 8
    assert not drawn[3, 3]


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        (
            (500, 540, 800, 900),
            (520 - SIDE // 2, 520 + SIDE // 2),
            (850 - SIDE // 2, 850 + SIDE // 2),
        ),
        ((0, 10, 1990, 2000), (0, SIDE), (2000 - SIDE, 2000)),
        ((100, 900, 100, 1900), (100 - MARGIN, 900 + MARGIN), (100 - MARGIN, 1900 + MARGIN)),
    ],
)
def test_of_a_large_picture_the_part_around_the_mask_is_shown(box, rows, columns):
    mask = np.zeros((1000, 2000), bool)
    mask[box[0] : box[1], box[2] : box[3]] = True
    assert viewport(mask) == (slice(*rows), slice(*columns))


def test_all_is_shown_of_a_small_picture_and_where_there_is_no_mask():
    assert viewport(np.zeros((1000, 2000), bool)) == (slice(0, 1000), slice(0, 2000))
    assert viewport(np.eye(SIDE, dtype=bool)) == (slice(0, SIDE), slice(0, SIDE))


@pytest.mark.parametrize(("count", "chosen"), [(3, [0, 4, 9]), (1, [0]), (20, list(range(10)))])
def test_pictures_are_spread_from_the_first_to_the_last(count, chosen):
    assert spread(list(range(10)), count) == chosen


def test_a_caption_tells_the_gain_or_that_nothing_is_blurred(pairs, deblurrer):
    blurred, _, still = evaluate(deblurrer, pairs).scores
    assert f"{blurred.gain:+.2f} dB" in caption(blurred)
    assert caption(still).startswith("2   nothing is blurred   coverage ")
