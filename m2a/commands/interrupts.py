"""Ctrl-C between two pictures, not within one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class HeldInterrupt:
    """A Ctrl-C that waits for its moment.

    Attributes:
        came: whether it was pressed.
    """

    def __init__(self) -> None:
        self.came = False

    def raise_if_came(self) -> None:
        """Raises KeyboardInterrupt if it was pressed."""
        if self.came:
            raise KeyboardInterrupt


@contextmanager
def held_interrupts() -> Iterator[HeldInterrupt]:
    """Holds Ctrl-C back; yields what tells whether it came, and raises it when asked to.

    An exception that meets a callback of libvips into Python is printed by cffi and lost. Whoever
    does not want to wait for the picture at hand presses Ctrl-C again.
    """
    held = HeldInterrupt()
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        if held.came and callable(before):
            before(number, frame)
        held.came = True

    # Elsewhere than in the main thread, or where signals are ignored, there is nothing to hold.
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield held
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield held
    finally:
        signal.signal(signal.SIGINT, before)
