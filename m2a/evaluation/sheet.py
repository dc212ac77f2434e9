"""A contact sheet to look at: blurred with the masks outlined, restored, truth, with the gain."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from m2a.evaluation.evaluate import Deblurs, found_mask, read_known
from m2a.evaluation.metrics import finite_psnr
from m2a.evaluation.pairs import Pair
from m2a.evaluation.score import Evaluation, Score
from m2a.extras import needing_extra
from m2a.runtime.photo import eight_bits
from m2a.runtime.sites import dilate

Cell = NDArray[np.uint8]
"""[h, w, 3], RGB."""

SIDE = 448
"""Pixels that a picture may have on the sheet at most, a side."""

WIDTH = 1700
"""Pixels of the sheet's width, about: small pictures stand in two or more columns."""

LEAST = 120
"""Pixels of a column at least: narrower, no caption could be read."""

MARGIN = 32
"""Pixels shown around the mask of a larger picture."""

PREDICTED = (255, 225, 0)
TRUE = (0, 205, 255)
GROUND = 24
GAP = 6
LETTERS = 15
LINE = 26

HEADINGS = ("blurred; found (yellow), true (blue)", "restored", "truth")


def draw_sheet(
    deblurrer: Deblurs,
    pairs: Sequence[Pair],
    evaluation: Evaluation,
    *,
    count: int = 16,
    progress: Callable[[int], None] = lambda _: None,
) -> Cell:
    """Draws blurred, restored and truth of some of the pictures, the worst gain first.

    They are spread evenly from the least to the greatest gain, with both; then come those where
    nothing is blurred. They are deblurred once more, so that none need be kept meanwhile. A picture
    of at most 448 pixels a side is shown as it is. Of a larger one the part around the true mask
    is shown, or around what was found where nothing is blurred, scaled down where that is larger
    still.

    Args:
        deblurrer: what was measured.
        pairs: what it was measured on.
        evaluation: the scores of all of them.
        count: pictures at most, at least 1.
        progress: called with the number of those that were deblurred.

    Returns:
        uint8 [H, W, 3], sRGB.

    Raises:
        UsageError, ImageError: as `evaluate`.
        MissingDependencyError: Pillow, of the extra `eval`, is not installed.
    """
    named = {pair.name: pair for pair in pairs}
    chosen = choose(evaluation, count)
    triples: list[tuple[Cell, ...]] = []
    for number, score in enumerate(chosen, start=1):
        triples.append(_cells(deblurrer, named[score.name]))
        progress(number)
    width = max(LEAST, *(cell.shape[1] for cells in triples for cell in cells))
    total = 3 * width + 2 * GAP
    columns = min(len(chosen), max(1, WIDTH // total))
    blocks = [
        np.vstack([_text(caption(score), total), _beside(cells, width)])
        for score, cells in zip(chosen, triples, strict=True)
    ]
    headings = _beside([_text(heading, width) for heading in HEADINGS], width)
    strips = [_beside([headings] * columns, total)]
    strips += [
        _beside(blocks[first : first + columns], total, columns=columns)
        for first in range(0, len(blocks), columns)
    ]
    return np.vstack(strips)


def choose(evaluation: Evaluation, count: int) -> list[Score]:
    """The pictures of a sheet: blurred ones as far as it has room, then the others."""
    ordered = evaluation.by_gain()
    blurred = [score for score in ordered if score.gain is not None]
    chosen = spread(blurred, count)
    return chosen + spread(ordered[len(blurred) :], count - len(chosen))


def spread(scores: Sequence[Score], count: int) -> list[Score]:
    """At most `count` of them, evenly, the first and (from two on) the last among them."""
    if len(scores) <= count:
        return list(scores)
    if count < 1:
        return []
    places = np.rint(np.linspace(0, len(scores) - 1, count)).astype(int)
    return [scores[place] for place in places]


def caption(score: Score) -> str:
    """What is written above a picture."""
    found = f"coverage {score.coverage:.1%}"
    if score.gain is None or score.psnr_before is None or score.psnr_after is None:
        return f"{score.name}   nothing is blurred   {found}"
    before, after = finite_psnr(score.psnr_before), finite_psnr(score.psnr_after)
    parts = [
        score.name,
        f"{score.gain:+.2f} dB ({before:.1f} to {after:.1f})",
        f"IoU {score.iou:.2f}",
        found,
    ]
    if score.angle_error is not None:
        parts.append(f"angle off by {score.angle_error:.0f}°")
    return "   ".join(parts)


def outline(
    picture: Cell, mask: NDArray[np.bool_], colour: tuple[int, int, int], *, by: int
) -> None:
    """Draws a line of `by` pixels around a mask [h, w], outside of it, into the picture."""
    picture[dilate(mask, by) & ~mask] = colour


def viewport(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Which part of a picture to show: rows and columns.

    Args:
        mask: bool [H, W], what must be seen.

    Returns:
        The whole of a picture of at most `SIDE` pixels a side; of a larger one the mask's bounding
        box with a margin, or as much as fits unscaled, or the whole where the mask is empty.
    """
    if max(mask.shape) <= SIDE or not mask.any():
        return slice(0, mask.shape[0]), slice(0, mask.shape[1])
    return _reach(mask.max(axis=1)), _reach(mask.max(axis=0))


def _reach(line: NDArray[np.bool_]) -> slice:
    """From the first to the last of bool [n], with a margin, at least `SIDE` where n is."""
    places = np.flatnonzero(line)
    first, last = int(places[0]) - MARGIN, int(places[-1]) + 1 + MARGIN
    widened = max(0, SIDE - (last - first))
    first, last = max(0, first - widened // 2), min(line.size, last + widened - widened // 2)
    # What the border cut off is added on the other side.
    return slice(max(0, min(first, last - SIDE)), min(line.size, max(last, first + SIDE)))


def _cells(deblurrer: Deblurs, pair: Pair) -> tuple[Cell, ...]:
    known = read_known(pair)
    result = deblurrer(known.picture)
    found = found_mask(deblurrer, result)
    part = viewport(known.mask if known.mask.any() else found)
    height, width = found[part].shape
    factor = max(1.0, max(height, width) / SIDE)
    blurred, restored, truth = (
        _rgb(samples[part]) for samples in (known.picture, result.image, known.truth)
    )
    for mask, colour in ((known.mask, TRUE), (found, PREDICTED)):
        outline(blurred, mask[part], colour, by=math.ceil(factor))
    return tuple(_shrunk(cell, factor) for cell in (blurred, restored, truth))


def _rgb(samples: NDArray[np.uint8 | np.uint16]) -> Cell:
    return np.repeat(eight_bits(samples), 3 // samples.shape[2], axis=2)


def _shrunk(cell: Cell, factor: float) -> Cell:
    if factor == 1:
        return cell
    with needing_extra("eval", purpose="A contact sheet"):
        from PIL import Image
    size = (max(1, round(cell.shape[1] / factor)), max(1, round(cell.shape[0] / factor)))
    return np.asarray(Image.fromarray(cell).resize(size, Image.Resampling.LANCZOS))


def _beside(cells: Sequence[Cell], width: int, *, columns: int | None = None) -> Cell:
    """Cells side by side, each in the middle of a column of that width; there may be more."""
    height = max(cell.shape[0] for cell in cells)
    columns = columns or len(cells)
    out = np.full((height, columns * (width + GAP) - GAP, 3), GROUND, np.uint8)
    for number, cell in enumerate(cells):
        left = number * (width + GAP) + (width - cell.shape[1]) // 2
        out[: cell.shape[0], left : left + cell.shape[1]] = cell
    return out


def _text(text: str, width: int) -> Cell:
    """A line of text, uint8 [LINE, width, 3]; what does not fit is cut off."""
    with needing_extra("eval", purpose="A contact sheet"):
        from PIL import Image, ImageDraw, ImageFont
    strip = Image.new("RGB", (width, LINE), (GROUND,) * 3)
    draw = ImageDraw.Draw(strip)
    draw.text(
        (4, LINE // 2), text, fill=(235,) * 3, font=ImageFont.load_default(LETTERS), anchor="lm"
    )
    return np.asarray(strip)
