"""One ahead, or one behind, and no more; in order, whatever happens."""

from __future__ import annotations

import threading

import pytest

from m2a.runtime.ahead import one_ahead, one_behind


def test_the_next_is_under_way_while_the_caller_is_busy():
    begun = {number: threading.Event() for number in range(4)}

    def work(number):
        begun[number].set()
        return 10 * number

    for number, future in one_ahead(range(4), work):
        assert future.result() == 10 * number
        if number < 3:
            assert begun[number + 1].wait(timeout=10)
        assert not any(begun[later].is_set() for later in range(number + 2, 4))


def test_what_fails_is_told_in_its_turn():
    def work(number):
        if number == 1:
            raise OSError("one")
        return number

    (_, first), (_, second), (_, third) = one_ahead(range(3), work)
    assert (first.result(), third.result()) == (0, 2)
    with pytest.raises(OSError, match="one"):
        second.result()


def test_who_stops_leaves_no_thread_behind():
    taken, before = [], set(threading.enumerate())
    rest = one_ahead(iter(range(100)), taken.append)
    next(rest)
    rest.close()
    assert len(taken) <= 2
    assert set(threading.enumerate()) <= before


def test_nothing_is_done_for_nothing():
    assert list(one_ahead([], int)) == []


class TestOneBehind:
    def test_the_next_is_made_while_the_one_before_is_at_work(self):
        made = [threading.Event() for _ in range(4)]

        def items():
            for number, event in enumerate(made):
                event.set()
                yield number

        def work(number):
            # Only the item after it lets it end.
            assert number == 3 or made[number + 1].wait(timeout=10)
            return 10 * number

        found = []
        for result in one_behind(items(), work):
            found.append(result)
            assert sum(event.is_set() for event in made) <= len(found) + 1
        assert found == [0, 10, 20, 30]

    def test_who_stops_was_told_of_all_that_was_done(self):
        done, before = [], set(threading.enumerate())
        rest = one_behind(iter(range(100)), done.append)
        next(rest)
        next(rest)
        rest.close()
        assert done == [0, 1]
        assert set(threading.enumerate()) <= before

    def test_who_is_interrupted_while_the_next_is_made_is_told_of_what_was_done(self):
        done, told = [], []

        def items():
            yield 1
            raise KeyboardInterrupt

        def work(number):
            threading.Event().wait(0.05)
            done.append(number)
            return number

        def tell():
            for result in one_behind(items(), work):
                told.append(result)  # noqa: PERF402 - what was told before it raised counts

        with pytest.raises(KeyboardInterrupt):
            tell()
        assert told == done == [1]

    def test_what_fails_is_raised_in_its_turn(self):
        begun = []

        def work(text):
            begun.append(text)
            return int(text)

        rest = one_behind(["1", "2", "x", "4"], work)
        assert [next(rest), next(rest)] == [1, 2]
        with pytest.raises(ValueError, match="'x'"):
            next(rest)
        assert begun == ["1", "2", "x"]
