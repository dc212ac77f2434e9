"""What TensorRT calls while it works: a logger, and a monitor of a build's progress.

Their bases are TensorRT's own classes, which are known only once it is imported.

TensorRT may call while it holds a lock that freeing any of its objects takes as well. A call runs
Python, and Python may collect garbage then: `nothing_collected` keeps it from that.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

Report = Callable[[str, int, int], None]
"""Called with a phase's name, the steps done in it, and all its steps; from any thread."""


def make_logger(trt: ModuleType) -> Any:  # noqa: ANN401 - a class whose base is known now only
    """A logger that keeps errors instead of printing them behind our back."""

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self._errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:  # noqa: ANN401
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self._errors.append(message)

        def said(self) -> str:
            return " ".join("; ".join(self._errors).split())[:500] or "it gives no reason"

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


@contextmanager
def nothing_collected() -> Iterator[None]:
    """Keeps the garbage collector away while TensorRT makes a builder or a runtime.

    There it logs under its lock. Seen with TensorRT for RTX 1.7: a builder left in a reference
    cycle was collected within the logger of the next one, and the process stood still for good.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
