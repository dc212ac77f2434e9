"""What a benchmark says: growth with coverage, against dense, and against an earlier one."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from m2a.benchmark.measure import Benchmark, Measured
from m2a.errors import UsageError

FITTED = (0.02, 0.40)
"""Coverages between which the time should grow linearly."""

TOLERANCE = 0.05
"""By how much the lower quartile may lie above the baseline's upper one before it is a regression:
machines of one kind differ by about as much from day to day."""


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How the time from mask to scatter grows with the coverage, at one size and precision.

    Attributes:
        size: (H, W).
        precision: of the graphs.
        r_squared: of a straight line through the medians between 2 and 40 % coverage; None where
            fewer than three coverages lie there.
        dense_ratio: coverage → dense median over this median; empty without a dense network.
        crossover: the coverage from which dense is as fast, between two measured ones by straight
            line; None where it is never, or there is no dense network.
    """

    size: tuple[int, int]
    precision: str
    r_squared: float | None
    dense_ratio: dict[float, float]
    crossover: float | None


def growths(benchmark: Benchmark) -> list[Growth]:
    """Analyses every size and precision of a benchmark."""
    groups: dict[tuple[tuple[int, int], str], list[Measured]] = {}
    for measured in benchmark.measured:
        groups.setdefault((measured.size, measured.precision), []).append(measured)
    found = []
    for (size, precision), group in groups.items():
        group.sort(key=lambda measured: measured.coverage)
        coverages = [measured.coverage for measured in group]
        medians = [measured.total.median for measured in group]
        dense = benchmark.dense.get(size)
        ratios = (
            {}
            if dense is None
            else {c: dense.median / m for c, m in zip(coverages, medians, strict=True)}
        )
        found.append(
            Growth(
                size=size,
                precision=precision,
                r_squared=_r_squared(coverages, medians),
                dense_ratio=ratios,
                crossover=None if dense is None else _crossing(coverages, medians, dense.median),
            )
        )
    return found


def _r_squared(coverages: Sequence[float], medians: Sequence[float]) -> float | None:
    low, high = FITTED
    # A coverage is a count of pixels, so it is not exactly what was asked for.
    inside = [
        (c, m) for c, m in zip(coverages, medians, strict=True) if low * 0.99 <= c <= high * 1.01
    ]
    if len(inside) < 3:
        return None
    x, y = np.array(inside).T
    residual = y - np.polyval(np.polyfit(x, y, 1), x)
    return float(1 - residual.var() / y.var())


def _crossing(coverages: Sequence[float], medians: Sequence[float], dense: float) -> float | None:
    for index, median in enumerate(medians):
        if median < dense:
            continue
        if index == 0:
            return coverages[0]
        before = medians[index - 1]
        share = (dense - before) / (median - before)
        return coverages[index - 1] + share * (coverages[index] - coverages[index - 1])
    return None


@dataclass(frozen=True, kw_only=True)
class Regression:
    """A picture that takes longer than it did, beyond noise.

    Attributes:
        case: its name.
        precision: of the graphs.
        before: the baseline's upper quartile, seconds.
        now: the lower quartile, seconds.
    """

    case: str
    precision: str
    before: float
    now: float


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """An earlier benchmark, as far as another one is compared with it.

    Attributes:
        path: its file.
        conditions: the backend and the number of threads that it was measured with.
        upper: (case, precision) → upper quartile from mask to scatter, seconds.
    """

    path: Path
    conditions: Mapping[str, Any]
    upper: Mapping[tuple[str, str], float]

    def check(self, *, backend: str, threads: int, pictures: Collection[tuple[str, str]]) -> None:
        """Refuses a benchmark that cannot be compared with it.

        Args:
            backend: of the benchmark.
            threads: likewise.
            pictures: the (case, precision) that it measures.

        Raises:
            UsageError: the backend or the number of threads is another one, or no picture is in
                common.
        """
        here = {"backend": backend, "threads": threads}
        if self.conditions != here:
            raise UsageError(
                f"{self.path} was measured with {self.conditions}, this benchmark with {here}"
            )
        if self.upper.keys().isdisjoint(pictures):
            raise UsageError(
                f"{self.path} has none of these pictures; it has "
                f"{', '.join(sorted({case for case, _ in self.upper}))}"
            )


def read_baseline(path: Path) -> Baseline:
    """Reads a file that `m2a bench --save` wrote.

    Raises:
        UsageError: the file is no benchmark.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return Baseline(
            path=path,
            conditions={name: stored[name] for name in ("backend", "threads")},
            upper={
                (str(m["case"]), str(m["precision"])): float(m["total"]["p75"])
                for m in stored["measured"]
            },
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not a benchmark that m2a saved: {error!r}") from error


def regressions(benchmark: Benchmark, baseline: Baseline) -> list[Regression]:
    """Compares with an earlier benchmark of the same pictures.

    Returns:
        Every picture whose lower quartile from mask to scatter lies more than 5 % above the
        baseline's upper one.

    Raises:
        UsageError: the two cannot be compared.
    """
    measured = {(m.case, m.precision): m for m in benchmark.measured}
    baseline.check(backend=benchmark.backend, threads=benchmark.threads, pictures=measured.keys())
    return [
        Regression(case=m.case, precision=m.precision, before=limit, now=m.total.p25)
        for picture, m in measured.items()
        if (limit := baseline.upper.get(picture)) is not None
        and m.total.p25 > limit * (1 + TOLERANCE)
    ]


def to_json(benchmark: Benchmark, environment: dict[str, str]) -> dict[str, Any]:
    """Returns a benchmark, what it says and where it was measured, as JSON values."""
    return {
        **benchmark.to_json(),
        "growth": [
            {
                "size": list(growth.size),
                "precision": growth.precision,
                "r_squared": growth.r_squared,
                "crossover": growth.crossover,
                "dense_ratio": [
                    {"coverage": coverage, "ratio": ratio}
                    for coverage, ratio in growth.dense_ratio.items()
                ],
            }
            for growth in growths(benchmark)
        ],
        "environment": environment,
    }
