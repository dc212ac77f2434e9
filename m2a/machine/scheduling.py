"""How the system shares the cores among this process's threads and all others."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

_TASKS = Path("/proc/self/task")


@contextlib.contextmanager
def ordinary_scheduling() -> Iterator[None]:
    """Undoes what the block does to the scheduling of threads, on Linux.

    Threads that were there get back what they had; those that the block starts get what its thread
    had. SVT-AV1 needs it: where it may, as root may, its encoder puts its threads and the one that
    opens it first in line, in real time. Until they wait nothing else runs on their cores, and
    every thread and process that is started later inherits it: a machine with few cores stands
    still.
    """
    if not hasattr(os, "sched_setscheduler") or not _TASKS.is_dir():
        yield
        return
    before = _schedulings()
    own = before[threading.get_native_id()]
    try:
        yield
    finally:
        for thread, found in _schedulings().items():
            policy, priority = before.get(thread, own)
            if found != (policy, priority):
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setscheduler(thread, policy, os.sched_param(priority))


def _schedulings() -> dict[int, tuple[int, int]]:
    """Thread → its policy and real-time priority; one that ends meanwhile is left out."""
    found = {}
    for thread in (int(task.name) for task in _TASKS.iterdir()):
        with contextlib.suppress(ProcessLookupError):
            priority = os.sched_getparam(thread).sched_priority
            found[thread] = os.sched_getscheduler(thread), priority
    return found
