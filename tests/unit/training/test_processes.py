"""Work spread over processes: done, failed, died, and left alone."""

from __future__ import annotations

import multiprocessing
import os
from functools import partial

import pytest

from m2a.errors import ImageError, TrainingError
from m2a.training import processes
from m2a.training.processes import spread


def touch(numbers, folder):
    for number in numbers:
        (folder / str(number)).touch()
        yield number


def fail(numbers):
    yield numbers[0]
    raise ImageError("disk full")


def die(numbers):
    yield numbers[0]
    os._exit(9)


def test_every_number_is_done_once(tmp_path):
    done = list(spread(partial(touch, folder=tmp_path), range(7), workers=2))
    assert sorted(done) == list(range(7))
    assert {path.name for path in tmp_path.iterdir()} == set("0123456")


@pytest.mark.parametrize(
    ("work", "error", "message"),
    [(fail, ImageError, "disk full"), (die, TrainingError, r"died \(exit code 9\)")],
)
def test_what_goes_wrong_there_is_raised_here(work, error, message):
    with pytest.raises(error, match=message):
        list(spread(work, range(2), workers=1))


def test_a_worker_stops_when_nobody_waits_for_it(monkeypatch, tmp_path):
    """As after the starting process was killed."""
    monkeypatch.setattr(processes, "become_worker", lambda: None)
    receiver, sender = multiprocessing.Pipe(duplex=False)
    receiver.close()
    processes._work_on(partial(touch, folder=tmp_path), range(5), sender)
    assert [path.name for path in tmp_path.iterdir()] == ["0"]
