"""Threads are scheduled after a block as before it, whatever it did."""

from __future__ import annotations

import os
import threading

import pytest
from threads import policies

from m2a.machine.scheduling import ordinary_scheduling

if not hasattr(os, "sched_setscheduler"):
    pytest.skip("this system has no such scheduling", allow_module_level=True)


@pytest.fixture
def waiting():
    """Starts a thread that waits; returns its number."""
    end = threading.Event()
    started = []

    def start():
        thread = threading.Thread(target=end.wait)
        thread.start()
        started.append(thread)
        return thread.native_id

    yield start
    end.set()
    for thread in started:
        thread.join()


def batch(thread):
    """Another policy, which no privilege is needed for, and none to undo."""
    os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))


def test_the_caller_and_the_threads_it_starts_are_scheduled_as_before(waiting):
    before = os.sched_getscheduler(0)
    assert before != os.SCHED_BATCH
    with ordinary_scheduling():
        batch(0)
        started = waiting()
        assert policies()[started] == os.SCHED_BATCH
    assert policies()[threading.get_native_id()] == before
    assert policies()[started] == before


def test_other_threads_keep_what_they_had(waiting):
    other, changed = waiting(), waiting()
    batch(other)
    with ordinary_scheduling():
        batch(changed)
    assert policies()[other] == os.SCHED_BATCH
    assert policies()[changed] == os.sched_getscheduler(0)


def test_an_exception_undoes_it_too():
    @ordinary_scheduling()
    def fail():
        batch(0)
        raise ValueError("lost")

    before = os.sched_getscheduler(0)
    with pytest.raises(ValueError, match="lost"):
        fail()
    assert os.sched_getscheduler(0) == before
