"""Threads for what NumPy computes, and memory that stays.

NumPy lets go of the interpreter's lock while it gathers, so threads help.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["ALONE", "Buffer", "Workers"]

Scalar = TypeVar("Scalar", bound=np.generic)


class Workers:
    """As many threads as may compute, started when they are first needed.

    Any thread may use it; the work must not use it again.

    Attributes:
        threads: how many.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pools: dict[int, ThreadPoolExecutor] = {}

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
            return
        futures = [self._pool().submit(work, part) for part in parts]
        try:
            wait(futures)
        finally:
            # Whatever happens, nothing is written to the caller's arrays once this has returned.
            for future in futures:
                future.cancel()
            wait(futures)
        for future in futures:
            future.result()

    def _pool(self) -> ThreadPoolExecutor:
        # A process that was forked has the pool of the one before, but not its threads.
        process = os.getpid()
        if process not in self._pools:
            pool = ThreadPoolExecutor(self.threads, thread_name_prefix="m2a")
            self._pools.setdefault(process, pool)
        return self._pools[process]


ALONE = Workers(1)
"""The calling thread computes all."""


class Buffer(threading.local, Generic[Scalar]):
    """An array that each thread uses again and again.

    New memory has to be cleared by the system page by page, which takes longer than to fill it.

    Args:
        dtype: of its arrays.
    """

    def __init__(self, dtype: type[Scalar]) -> None:
        self._values: NDArray[Scalar] = np.empty(0, dtype)

    def take(self, shape: tuple[int, ...]) -> NDArray[Scalar]:
        """Returns an array of any content. It is overwritten by what this thread takes next."""
        count = math.prod(shape)
        if count > len(self._values):
            dtype = self._values.dtype
            self._values = np.empty(0, dtype)  # not both at a time
            self._values = np.empty(count, dtype)
        return self._values[:count].reshape(shape)
