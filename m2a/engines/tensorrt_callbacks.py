"""What TensorRT calls while it works: a logger, and a monitor of a build's progress.

Their bases are TensorRT's own classes, which are known only once it is imported.

TensorRT may call while it holds a lock that freeing any of its objects takes as well. A call runs
Python, and Python may go on in another thread then, which frees one and waits for the lock, or
collect garbage. Seen with TensorRT for RTX 1.7: a builder or a runtime whose logger is not the one
that others were made with is made so, with a warning, and the process stood still for good. So all
of them get one logger, and where it is another package's that came first, `nothing_collected` keeps
at least the garbage.
"""

from __future__ import annotations

import functools
import gc
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

Report = Callable[[str, int, int], None]
"""Called with a phase's name, the steps done in it, and all its steps; from any thread."""


_KEPT = 200
"""Errors that a logger keeps: it lives as long as the process."""

_first_asked = threading.Lock()


def shared_logger(trt: ModuleType) -> Any:  # noqa: ANN401 - a class whose base is known now only
    """The process's one logger for a TensorRT; it keeps errors instead of printing them.

    Its `from_now_on()` returns what tells, in one line, the errors since. TensorRT logs from
    threads of its own, so these are the errors of all threads: of two builds at a time, each may
    tell the other's as well.
    """
    with _first_asked:  # two threads must not make two
        return _make_logger(trt)


@functools.cache
def _make_logger(trt: ModuleType) -> Any:  # noqa: ANN401
    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            # Without a lock: TensorRT may hold its own when it calls `log`. Each step is atomic.
            self._numbers = itertools.count()
            self._errors: list[tuple[int, str]] = []

        def log(self, severity: Any, message: str) -> None:  # noqa: ANN401
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self._errors.append((next(self._numbers), message))
                del self._errors[:-_KEPT]

        def from_now_on(self) -> Callable[[], str]:
            return functools.partial(self._said, since=next(self._numbers))

        def _said(self, *, since: int) -> str:
            errors = [message for number, message in self._errors[:] if number > since]
            return " ".join("; ".join(errors).split())[:500] or "it gives no reason"

    return Logger()


def make_monitor(trt: ModuleType, report: Report, stop: threading.Event) -> Any:  # noqa: ANN401
    """A monitor that hands the outermost phases' progress on, and stops the build when told to."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self._steps: dict[str, int] = {}
            self._lock = threading.Lock()  # TensorRT calls from several threads

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if not parent_phase:
                with self._lock:
                    self._steps[phase_name] = num_steps
                    report(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._lock:
                if phase_name in self._steps:
                    report(phase_name, step + 1, self._steps[phase_name])
            return not stop.is_set()

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                steps = self._steps.pop(phase_name, None)
                if steps is not None:
                    report(phase_name, steps, steps)

    return Monitor()


class _Collector:
    """Switches the garbage collector, which is the whole process's, off for some threads at once.

    It is on again when the last of them is done, if it was on before the first.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._enabled = False

    def keep_away(self) -> None:
        with self._lock:
            if not self._users:
                self._enabled = gc.isenabled()
                gc.disable()
            self._users += 1

    def let_back(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users and self._enabled:
                gc.enable()


_collector = _Collector()


@contextmanager
def nothing_collected() -> Iterator[None]:
    """Keeps the garbage collector away while TensorRT makes a builder or a runtime.

    There it may log under its lock. Seen with TensorRT for RTX 1.7: a builder left in a reference
    cycle was collected within the logger of the next one, and the process stood still for good.
    Several threads may be in it at a time.
    """
    _collector.keep_away()
    try:
        yield
    finally:
        _collector.let_back()
