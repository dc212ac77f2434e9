"""Repeated work in turns."""

from __future__ import annotations

import pytest

from m2a.benchmark.timing import Timing, in_turns, seconds_of


def test_a_timing_holds_the_percentiles():
    timing = Timing.of([4.0, 1.0, 2.0, 3.0, 5.0])
    assert (timing.p25, timing.median, timing.p75, timing.runs) == (2.0, 3.0, 4.0, 5)
    assert timing.p95 == pytest.approx(4.8)


def test_pieces_of_work_take_turns_and_the_first_rounds_do_not_count():
    order = []

    def work(name):
        def once():
            order.append(name)
            return {"stage": 100.0 if len(order) <= 2 else float(len(order))}

        return once

    taken = in_turns({"a": work("a"), "b": work("b")}, warmup=1, repeats=2)
    assert order == ["a", "b"] * 3
    assert taken["a"]["stage"].median == 4.0
    assert taken["b"]["stage"].runs == 2


def test_a_stage_that_is_not_always_there_has_fewer_runs():
    results = iter([{"always": 1.0}, {"always": 1.0, "sometimes": 2.0}])
    taken = in_turns({"it": lambda: next(results)}, warmup=0, repeats=2)
    assert taken["it"]["always"].runs == 2
    assert taken["it"]["sometimes"].runs == 1


def test_seconds_are_those_of_the_clock(monkeypatch):
    ticks = iter([10.0, 12.5])
    monkeypatch.setattr("m2a.benchmark.timing.time.perf_counter", lambda: next(ticks))
    assert seconds_of(lambda: None) == {"all": 2.5}
