"""Ctrl-C between two pictures, not within one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def held_interrupts() -> Iterator[Callable[[], None]]:
    """Holds Ctrl-C back; yields a function, called after each picture, that raises it.

    An exception that meets a callback of libvips into Python is printed by cffi and lost. Whoever
    does not want to wait for the picture at hand presses Ctrl-C again.
    """
    came = False
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if came and callable(before):
            before(number, frame)
        came = True

    def raise_held() -> None:
        if came:
            raise KeyboardInterrupt

    # Elsewhere than in the main thread, or where signals are ignored, there is nothing to hold.
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield raise_held
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield raise_held
    finally:
        signal.signal(signal.SIGINT, before)
