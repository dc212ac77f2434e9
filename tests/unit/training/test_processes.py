"""Work spread over processes: done, failed, died, and left alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from functools import partial

import pytest

from m2a.errors import ImageError, TrainingError
from m2a.training import processes
from m2a.training.processes import spread

PARENT = """
import multiprocessing, os, time
from m2a.training.processes import become_worker

def work():
    become_worker()
    print(os.getpid(), flush=True)
    time.sleep(600)

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=work, daemon=True).start()
    time.sleep(600)
"""


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


def be_terminated(numbers):
    yield numbers[0]
    os.kill(os.getpid(), signal.SIGTERM)
    yield from numbers[1:]


def leave_one_out(numbers):
    yield from numbers[1:]


def test_every_number_is_done_once(tmp_path):
    done = list(spread(partial(touch, folder=tmp_path), range(7), workers=2))
    assert sorted(done) == list(range(7))
    assert {path.name for path in tmp_path.iterdir()} == set("0123456")


@pytest.mark.parametrize(
    ("work", "error", "message"),
    [
        (fail, ImageError, "disk full"),
        (die, TrainingError, r"died \(exit code 9\)"),
        (be_terminated, TrainingError, r"died \(exit code 143\)"),
        (leave_one_out, TrainingError, "ended with 1 of 2 done"),
    ],
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


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("number", ["SIGTERM", "SIGKILL"])
def test_a_worker_ends_with_the_process_that_started_it(tmp_path, number):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE)
    worker = int(parent.stdout.readline())
    parent.send_signal(getattr(signal, number))
    try:
        parent.communicate(timeout=30)  # until the worker too has closed it
    except subprocess.TimeoutExpired:
        os.kill(worker, signal.SIGKILL)
        pytest.fail("the worker went on")
