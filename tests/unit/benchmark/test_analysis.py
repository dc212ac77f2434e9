"""What a benchmark says, on figures whose answer is known."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from m2a.benchmark.analysis import growths, read_baseline, regressions, to_json
from m2a.benchmark.measure import Benchmark, Measured
from m2a.benchmark.timing import Timing
from m2a.errors import UsageError

SIZE = (100, 200)


def timing(median, spread=0.0):
    return Timing(
        median=median, p25=median - spread, p75=median + spread, p95=median + 2 * spread, runs=5
    )


def measured(coverage, median, *, spread=0.0, precision="fp32"):
    return Measured(
        case=f"200x100 {coverage:.0%}",
        precision=precision,
        size=SIZE,
        coverage=coverage,
        stages={"restore": timing(median)},
        total=timing(median, spread),
        rate=10.0,
        share_of_limit=0.5,
        tables_share=None,
        products_and_gathers=None,
    )


def benchmark(*entries, dense=None):
    return Benchmark(
        measured=entries,
        dense={} if dense is None else {SIZE: timing(dense)},
        limit=20.0,
        backend="ort-cpu",
        threads=2,
        peak_memory=2**30,
    )


def test_a_time_that_is_a_straight_line_has_an_r_squared_of_one():
    line = [measured(c, 0.1 + 2 * c) for c in (0.01, 0.02, 0.1, 0.4, 1.0)]
    (growth,) = growths(benchmark(*line))
    assert growth.r_squared == pytest.approx(1.0)
    assert growth.crossover is None
    assert growth.dense_ratio == {}


def test_only_coverages_from_2_to_40_percent_are_fitted():
    bent = [measured(0.01, 9.0), *(measured(c, c) for c in (0.02, 0.1, 0.4)), measured(1.0, 9.0)]
    (growth,) = growths(benchmark(*bent))
    assert growth.r_squared == pytest.approx(1.0)


def test_r_squared_is_the_textbooks():
    entries = [measured(c, m) for c, m in ((0.1, 1.0), (0.2, 3.0), (0.3, 2.0))]
    (growth,) = growths(benchmark(*entries))
    assert growth.r_squared == pytest.approx(0.25)  # the correlation of 1, 2, 3 and 1, 3, 2 is 1/2


def test_two_coverages_make_no_fit():
    (growth,) = growths(benchmark(measured(0.1, 1.0), measured(0.2, 2.0)))
    assert growth.r_squared is None


def test_the_crossover_lies_between_two_measured_coverages():
    entries = [measured(c, 10 * c) for c in (1.0, 0.1, 0.4)]
    (growth,) = growths(benchmark(*entries, dense=7.0))
    assert growth.crossover == pytest.approx(0.7)
    assert growth.dense_ratio == pytest.approx({0.1: 7.0, 0.4: 1.75, 1.0: 0.7})


def test_a_dense_network_that_is_never_as_fast_has_no_crossover():
    (growth,) = growths(benchmark(measured(0.1, 1.0), measured(1.0, 2.0), dense=5.0))
    assert growth.crossover is None


def test_precisions_are_told_apart():
    entries = [measured(0.1, 1.0), measured(0.1, 0.5, precision="fp16")]
    assert [growth.precision for growth in growths(benchmark(*entries))] == ["fp32", "fp16"]


@pytest.fixture
def baseline(tmp_path):
    path = tmp_path / "before.json"
    before = benchmark(measured(0.1, 1.0, spread=0.1), measured(0.2, 2.0))
    path.write_text(json.dumps(to_json(before, {"onnxruntime": "1.0"})))
    return read_baseline(path)


def test_the_same_benchmark_is_no_regression(baseline):
    same = benchmark(measured(0.1, 1.0, spread=0.1), measured(0.2, 2.0))
    assert regressions(same, baseline) == []


def test_slower_within_noise_is_no_regression(baseline):
    noisy = benchmark(measured(0.1, 1.4, spread=0.3), measured(0.2, 2.05))
    assert regressions(noisy, baseline) == []


def test_slower_beyond_noise_is_one(baseline):
    slower = benchmark(measured(0.1, 1.3, spread=0.1), measured(0.2, 2.0))
    (found,) = regressions(slower, baseline)
    assert (found.case, found.before, found.now) == (
        "200x100 10%",
        pytest.approx(1.1),
        pytest.approx(1.2),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threads": 1}, "was measured with"),
        ({"measured": [measured(0.5, 1.0)]}, "has none of these pictures"),
    ],
)
def test_what_cannot_be_compared_is_refused(baseline, change, message):
    with pytest.raises(UsageError, match=message):
        regressions(replace(benchmark(measured(0.1, 1.0)), **change), baseline)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"measured": [{}]}', "\xff"])
def test_a_file_that_is_no_benchmark_is_refused(tmp_path, content):
    path = tmp_path / "before.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(UsageError, match="is not a benchmark"):
        read_baseline(path)
