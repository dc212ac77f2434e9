"""Threads that compute, and the bounded line before them.

All of `Workers` but the work itself runs in the event loop. Who waits stands in a line of our own
and not in the thread pool's, which would keep the photo of a client that went away.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from m2a.serving.problems import ProblemError

__all__ = ["Workers"]

T = TypeVar("T")

MEMORY = 0.2
"""Weight of the newest of the times by which it is estimated when a worker will be free."""


class Workers:
    """Computes at most `workers` pieces of work at a time, and lets at most `queue` wait.

    Attributes:
        busy: workers that compute.
    """

    def __init__(self, *, workers: int, queue: int) -> None:
        self._workers, self._queue = workers, queue
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="m2a-worker")
        self._line: deque[asyncio.Future[None]] = deque()
        self._running: set[asyncio.Future[Any]] = set()
        self.busy = 0
        self._typical_seconds = 1.0

    @property
    def waiting(self) -> int:
        """Pieces of work that wait for a worker."""
        return len(self._line)

    def check_room(self) -> None:
        """Refuses work for which there is no place.

        Raises:
            ProblemError: 429, with the seconds after which to try again.
        """
        if self.busy >= self._workers and self.waiting >= self._queue:
            raise ProblemError(
                429,
                f"found {self.waiting} photos waiting, expected at most {self._queue}; "
                "try again later",
                headers={"Retry-After": str(self._seconds_until_free())},
            )

    async def compute(
        self,
        work: Callable[[Callable[[], bool]], T],
        *,
        seconds: float,
        begun: Callable[[asyncio.Future[T]], None],
    ) -> tuple[T, float]:
        """Computes a piece of work in a thread.

        Whoever cancels this leaves the line, or leaves the thread to end its work alone.

        Args:
            work: gets a function that tells whether nobody waits for its result any more.
            seconds: to wait and to be computed, together.
            begun: called with the thread's work when it is handed over. That goes on where this
                ends with 504 or is cancelled.

        Returns:
            The work's result, and the seconds that it waited.

        Raises:
            ProblemError: 429, there is no place in the line; 503, no worker was free in time;
                504, the work was not done in time.
        """
        self.check_room()
        loop = asyncio.get_running_loop()
        began = loop.time()
        await self._turn(seconds)
        waited = loop.time() - began
        given_up = threading.Event()
        try:
            running = loop.run_in_executor(self._threads, work, given_up.is_set)
        except BaseException:
            self._pass_on()
            raise
        self._running.add(running)
        running.add_done_callback(lambda done: self._ended(done, loop.time() - began - waited))
        begun(running)
        try:
            done, _ = await asyncio.wait({running}, timeout=max(seconds - waited, 0))
        finally:
            given_up.set()
        if not done:
            raise ProblemError(
                504,
                f"the photo was not done within {seconds:g} seconds; take a smaller one, or a "
                "higher threshold",
            )
        return running.result(), waited

    async def close(self) -> None:
        """Waits until the threads have ended their work; whoever cancels this does not."""
        if self._running:  # in the loop, which so hears that it is to wait no longer
            await asyncio.wait(self._running)
        self._threads.shutdown(wait=True)

    async def _turn(self, seconds: float) -> None:
        """Waits until a worker is free, and takes it."""
        if self.busy < self._workers:
            self.busy += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            await asyncio.wait({turn}, timeout=seconds)
        except asyncio.CancelledError:
            if turn.done():
                self._pass_on()
            else:
                self._line.remove(turn)
            raise
        if not turn.done():
            self._line.remove(turn)
            raise ProblemError(
                503,
                f"no worker was free within {seconds:g} seconds; try again later",
                headers={"Retry-After": str(self._seconds_until_free())},
            )

    def _ended(self, done: asyncio.Future[T], seconds: float) -> None:
        self._running.discard(done)
        self._typical_seconds += MEMORY * (seconds - self._typical_seconds)
        if not done.cancelled():
            done.exception()  # looked at, for nobody else may
        self._pass_on()

    def _pass_on(self) -> None:
        """Gives a worker that is free to whoever waits longest."""
        if self._line:
            self._line.popleft().set_result(None)
        else:
            self.busy -= 1

    def _seconds_until_free(self) -> int:
        rounds = (self.waiting + 1) / self._workers
        return max(1, math.ceil(rounds * self._typical_seconds))
