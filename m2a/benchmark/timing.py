"""Times of repeated work, taken in turns so that what disturbs the machine disturbs all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Timing", "in_turns", "seconds_of"]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Wall times of one thing, in seconds.

    Attributes:
        median: half of the runs took less.
        p25: the lower quartile.
        p75: the upper quartile.
        p95: 95 % of the runs took less; with few runs close to the slowest.
        runs: how many there were.
    """

    median: float
    p25: float
    p75: float
    p95: float
    runs: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timing:
        """Summarises at least one run."""
        p25, median, p75, p95 = (float(v) for v in np.percentile(seconds, [25, 50, 75, 95]))
        return cls(median=median, p25=p25, p75=p75, p95=p95, runs=len(seconds))


def seconds_of(work: Callable[[], object]) -> dict[str, float]:
    """Runs work once; returns its wall time as the only stage, `all`."""
    began = time.perf_counter()
    work()
    return {"all": time.perf_counter() - began}


def in_turns(
    work: Mapping[str, Callable[[], Mapping[str, float]]],
    *,
    warmup: int,
    repeats: int,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, dict[str, Timing]]:
    """Runs several pieces of work round after round.

    Args:
        work: name → a function that does it once and returns its stages' wall times in seconds.
        warmup: rounds that do not count.
        repeats: rounds that do, at least one.
        progress: called with the name of what begins.

    Returns:
        Name → stage → its timing.
    """
    taken: dict[str, dict[str, list[float]]] = {name: {} for name in work}
    for round_number in range(warmup + repeats):
        for name, once in work.items():
            progress(name)
            stages = once()
            if round_number < warmup:
                continue
            for stage, seconds in stages.items():
                taken[name].setdefault(stage, []).append(seconds)
    return {
        name: {stage: Timing.of(seconds) for stage, seconds in stages.items()}
        for name, stages in taken.items()
    }
