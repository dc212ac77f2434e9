"""Threads for what NumPy computes: it lets go of the interpreter's lock while it gathers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

__all__ = ["ALONE", "Workers"]


class Workers:
    """As many threads as may compute, started when they are first needed.

    Any thread may use it; the work must not use it again.

    Attributes:
        threads: how many.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def over(self, count: int, step: int, work: Callable[[slice], object]) -> None:
        """Calls `work` with slices of `step` rows that together are 0 to `count`.

        Args:
            count: rows in all.
            step: rows at a time: as many as keep the work's intermediate arrays in a core's cache.
            work: computes some rows, and writes to no others.

        Raises:
            Exception: the first that `work` raised.
        """
        parts = [slice(low, min(low + step, count)) for low in range(0, count, step)]
        if self.threads == 1 or len(parts) <= 1:
            for part in parts:
                work(part)
        else:
            list(self._pool.map(work, parts))

    @functools.cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads, thread_name_prefix="m2a")


ALONE = Workers(1)
"""The calling thread computes all."""
