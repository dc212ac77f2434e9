"""The figures of `m2a eval` for people: a line per picture, then the means."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from m2a.errors import on_one_line
from m2a.evaluation.score import Evaluation, Score

_COLUMNS: tuple[tuple[str, int, Callable[[Score], float | None], str], ...] = (
    ("gain dB", 8, lambda s: s.gain, "+.2f"),
    ("PSNR", 6, lambda s: s.psnr_before, ".2f"),
    ("after", 6, lambda s: s.psnr_after, ".2f"),
    ("SSIM", 6, lambda s: s.ssim_before, ".4f"),
    ("after", 6, lambda s: s.ssim_after, ".4f"),
    ("IoU", 5, lambda s: s.iou if s.gain is not None else None, ".2f"),
    ("prec.", 5, lambda s: s.precision if s.gain is not None else None, ".2f"),
    ("rec.", 5, lambda s: s.recall if s.gain is not None else None, ".2f"),
    ("coverage", 8, lambda s: s.coverage, ".1%"),
    ("FLOP", 6, lambda s: s.flop_share, ".1%"),
    ("angle", 6, lambda s: s.angle_error, ".1f"),
)
"""Heading, width, value and format."""


def table_lines(evaluation: Evaluation) -> Iterator[str]:
    """The lines: what each column means stands in the guide, under the names of the summary."""
    names = [on_one_line(score.name) for score in evaluation.scores]
    longest = max(len(name) for name in ["picture", *names])
    headings = "  ".join(f"{heading:>{width}}" for heading, width, _, _ in _COLUMNS)
    yield f"{'picture':{longest}}  {headings}"
    for name, score in zip(names, evaluation.scores, strict=True):
        values = "  ".join(
            f"{'-' if (found := value(score)) is None else format(found, form):>{width}}"
            for _, width, value, form in _COLUMNS
        )
        yield f"{name:{longest}}  {values}"
    yield ""
    for name, value in evaluation.summary().items():
        yield f"{name:26} {_figure(value)}"


def _figure(value: float | str | None) -> str:
    if value is None:
        return "-"
    return on_one_line(value) if isinstance(value, str) else format(value, ".4g")
