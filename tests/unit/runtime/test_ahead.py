"""One ahead and no more, in order, whatever happens."""

from __future__ import annotations

import threading

import pytest

from m2a.runtime.ahead import one_ahead


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
    taken = []
    rest = one_ahead(iter(range(100)), taken.append)
    next(rest)
    rest.close()
    assert len(taken) <= 2
    assert not [t for t in threading.enumerate() if t.name.startswith("m2a-ahead")]


def test_nothing_is_done_for_nothing():
    assert list(one_ahead([], int)) == []
