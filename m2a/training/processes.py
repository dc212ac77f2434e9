"""Work on numbered things, spread over processes that end with the one that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from m2a.errors import M2AError, TrainingError
from m2a.training.opencv import cv2

Work = Callable[[Sequence[int]], Iterator[int]]


def spread(work: Work, numbers: Sequence[int], *, workers: int) -> Generator[int, None, None]:
    """Does work in several processes; those still at it are ended when the iteration is.

    Args:
        work: does what it is given and yields each number once that is done; it is pickled.
        numbers: what is to be done.
        workers: how many processes, at least one.

    Yields:
        The numbers, as they are done.

    Raises:
        TrainingError: a process died, or numbers were left out. What the work raises of `M2AError`
            and `OSError` is raised here too.
    """
    context = multiprocessing.get_context("spawn")
    processes, open_ends = [], []
    done = 0
    for worker in range(min(workers, len(numbers))):
        receiver, sender = context.Pipe(duplex=False)
        part = numbers[worker::workers]
        process = context.Process(target=_work_on, args=(work, part, sender), daemon=True)
        process.start()
        sender.close()  # so that the other end closes with the process
        processes.append(process)
        open_ends.append(receiver)
    try:
        while open_ends:
            ready = wait(open_ends)
            for end in [end for end in open_ends if end in ready]:
                try:
                    told = end.recv()
                except EOFError:
                    open_ends.remove(end)
                    continue
                if isinstance(told, Exception):
                    raise told
                done += 1
                yield told
        for process in processes:
            process.join()
            if process.exitcode != 0:
                raise TrainingError(
                    f"a process that renders samples died (exit code {process.exitcode}), perhaps "
                    "for want of memory; the same command goes on, with fewer --workers if so"
                )
        if done < len(numbers):
            raise TrainingError(
                f"the processes that render samples ended with {done} of {len(numbers)} done; the "
                "same command goes on"
            )
    finally:
        for process in processes:
            process.terminate()
            process.join()


def become_worker() -> None:
    """Leaves Ctrl-C to the process that started this one, and uses one thread for OpenCV.

    SIGTERM ends it with the exit code of a shell, 143; so does the end of the process that
    started it, however that comes.
    """
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # By an exception, so that the temporary file of what is half written is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    """Ends this process when the one that started it has ended, which may have been killed."""
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _work_on(work: Work, numbers: Sequence[int], sender: Connection) -> None:
    become_worker()
    with suppress(BrokenPipeError):  # nobody waits for it any more
        try:
            for number in work(numbers):
                sender.send(number)
        except (M2AError, OSError) as error:
            sender.send(error)
