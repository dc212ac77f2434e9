"""Slices cover everything once, and nothing is written any more once the call is over."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest

from m2a.runtime.workers import ALONE, Buffer, Workers


@pytest.mark.parametrize("workers", [ALONE, Workers(3)], ids=["alone", "three"])
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 100])
def test_every_row_is_taken_once(workers, count):
    times = np.zeros(count, int)

    def work(rows):
        times[rows] += 1

    workers.over(count, 8, work)
    assert (times == 1).all()


def test_after_a_failure_no_slice_is_still_being_written():
    values = np.zeros(4)

    def work(rows):
        if rows.start == 0:
            raise MemoryError("the first")
        time.sleep(0.2)
        values[rows] = 1

    with pytest.raises(MemoryError, match="the first"):
        Workers(4).over(4, 1, work)
    after = values.copy()
    time.sleep(0.4)
    np.testing.assert_array_equal(values, after)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking beside threads, since 3.12
def test_workers_work_again_in_a_process_that_was_forked():
    workers = Workers(2)
    names = set()
    workers.over(8, 1, lambda rows: names.add(threading.current_thread().name))
    assert names
    child = os.fork()
    if not child:  # no assertion may return into pytest here
        total = []
        workers.over(8, 1, total.append)
        os._exit(0 if len(total) == 8 else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0


def test_a_buffer_is_used_again_and_is_each_threads_own():
    buffer = Buffer(np.float32)
    first = buffer.take((4, 5))
    assert np.shares_memory(first, buffer.take((2, 3)))
    assert not np.shares_memory(first, buffer.take((10, 10)))
    taken = []
    thread = threading.Thread(target=lambda: taken.append(buffer.take((2, 2))))
    thread.start()
    thread.join()
    assert not np.shares_memory(taken[0], buffer.take((2, 2)))
