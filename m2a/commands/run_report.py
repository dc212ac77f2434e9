"""What `m2a run` says of a picture and of many."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from m2a.errors import on_one_line
from m2a.runtime.outcomes import DONE, FAILED, SKIPPED, Outcome

__all__ = ["Tally", "fields_of", "line_of", "nothing_found", "percentage"]


def fields_of(outcome: Outcome) -> dict[str, Any]:
    """The JSON object of a picture: its names, and what there is to tell.

    All have their `status`; one that is done has `coverage`, `threshold`, `highest_probability`,
    `copied`, `backend`, `precision`, `precision_reason`, `ensemble` and
    `seconds` too, and one that failed its `error`.
    """
    fields: dict[str, Any] = {
        "status": outcome.status,
        "input": str(outcome.source),
        "output": None if outcome.output is None else str(outcome.output),
    }
    if outcome.status == DONE:
        fields["coverage"] = outcome.coverage
        fields["threshold"] = outcome.threshold
        fields["highest_probability"] = outcome.highest_probability
        fields["copied"] = outcome.copied
        fields["backend"] = outcome.backend
        fields["precision"] = outcome.precision
        fields["precision_reason"] = outcome.precision_reason
        fields["ensemble"] = outcome.ensemble
        fields["seconds"] = dict(outcome.seconds)
    if outcome.reason is not None:
        fields["error"] = outcome.reason
    return fields


def line_of(outcome: Outcome) -> str:
    """One line on what became of a picture that did not fail."""
    name = on_one_line(outcome.output or "standard output")
    if outcome.status == SKIPPED:
        return f"{name}: exists already, skipped"
    seconds = f"{sum(outcome.seconds.values()):.2f} s"
    if not outcome.coverage:
        copied = "unchanged, copied; " if outcome.copied else ""
        return f"{name}: {copied}{nothing_found(outcome.threshold, outcome.highest_probability)}"
    return (
        f"{name}: {percentage(outcome.coverage)} of the pixels restored in {seconds} "
        f"on {outcome.backend}"
    )


def nothing_found(threshold: float | None, highest: float | None) -> str:
    """Why no pixel was restored, and which options restore some.

    Args:
        threshold: the probability from which a pixel is restored.
        highest: the highest probability of visible motion blur; None where the mask was given.
    """
    if highest is None or threshold is None:
        return "no pixel was restored, for the mask that was given is empty"
    lower = math.floor(highest * 100) / 100  # rounded up, it could reach the threshold
    options = f"--threshold {lower:g} or --mask-in" if lower > 0 else "--mask-in"
    shown = f"{math.floor(highest * 1000) / 1000:g}" if highest >= 0.001 else "less than 0.001"
    return (
        f"no motion blur found, no pixel was restored: the highest probability is {shown}, below "
        f"the threshold of {threshold:g}; {options} restores some all the same"
    )


def percentage(share: float) -> str:
    """A share, 0 to 1, such that a little does not look like nothing."""
    return "less than 0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


class Tally:
    """What many pictures come to.

    Attributes:
        counts: pictures per status.
        replaced: how many of the skipped an interrupted run had replaced already.
    """

    def __init__(self, total: int) -> None:
        self.counts: Counter[str] = Counter()
        self.replaced = 0
        self._total, self._pixels, self._restored, self._without_blur = total, 0, 0.0, 0

    def add(self, outcome: Outcome) -> None:
        """Counts one more."""
        self.counts[outcome.status] += 1
        self.replaced += outcome.replaced
        if outcome.status == DONE:
            coverage, pixels = outcome.coverage or 0.0, outcome.pixels or 0
            self._pixels += pixels
            self._restored += coverage * pixels
            self._without_blur += not coverage

    def figures(self, outcome: Outcome) -> str:
        """What stands beside the bar: failures, and the picture before."""
        failed = f"{self.counts[FAILED]} failed  " if self.counts[FAILED] else ""
        if outcome.status != DONE or outcome.coverage is None:
            return failed.rstrip()
        seconds = sum(outcome.seconds.values())
        name = on_one_line(outcome.source.name)
        return f"{failed}{name}: {percentage(outcome.coverage)} in {seconds:.1f} s"

    @property
    def left(self) -> int:
        """Pictures that have no outcome yet."""
        return self._total - self.counts.total()

    def summary(self, *, seconds: float) -> str:
        """One line; `seconds` is the wall time of all."""
        parts = [f"{self.counts[status]} {status}" for status in (DONE, SKIPPED, FAILED)]
        if self.left:
            parts.append(f"{self.left} left")
        parts[-1] += f" in {seconds:.1f} s"
        if self._pixels:
            parts.append(f"{percentage(self._restored / self._pixels)} of the pixels restored")
        if self._without_blur:
            parts.append(f"no motion blur found in {self._without_blur}")
        return ", ".join(parts)
