"""Work that is under way while its turn has not yet come, or is not yet over when it has passed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Found = TypeVar("Found")

__all__ = ["one_ahead", "one_behind"]


def one_ahead(
    items: Iterable[Item], work: Callable[[Item], Found]
) -> Generator[tuple[Item, Future[Found]], None, None]:
    """Begins the work for an item while the caller is still busy with the one before.

    Args:
        items: taken one after another in the caller's thread, at most one ahead.
        work: runs in a thread of its own, for one item at a time, in their order.

    Yields:
        Each item, in order, and what its work will return or raise.
    """
    waiting: deque[tuple[Item, Future[Found]]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="m2a-ahead") as pool:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) > 1:
                yield waiting.popleft()
        yield from waiting


def one_behind(
    items: Iterable[Item], work: Callable[[Item], Found]
) -> Generator[Found, None, None]:
    """Does the work for an item while the next item is being made.

    Args:
        items: taken one after another in the caller's thread.
        work: runs in a thread of its own, for one item at a time, in their order.

    Yields:
        What the work returned, in order; one more item has then been made, and its work has not
        begun: whoever stops there has been told of all that was done.

    Raises:
        Exception: the first that `work` or `items` raised, when all that was done before is told.
    """
    source, waiting = iter(items), None
    with ThreadPoolExecutor(1, thread_name_prefix="m2a-behind") as pool:
        while True:
            try:
                item = next(source)
            except StopIteration:
                break
            except BaseException:
                if waiting is not None:
                    yield waiting.result()  # what is done is told first
                raise
            if waiting is not None:
                yield waiting.result()
            waiting = pool.submit(work, item)
            del item  # its memory goes when the work is done
        if waiting is not None:
            yield waiting.result()
