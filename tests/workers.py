"""Work that pytest-xdist's workers share instead of each doing it."""

from __future__ import annotations

import os
import pickle

IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ


def once_for_all_workers(name, make, factory):
    """What `make(folder)` returns; the worker that comes first calls it, the others wait for it.

    Args:
        name: of the folder, which is empty.
        make: returns what can be pickled.
        factory: pytest's `tmp_path_factory`.
    """
    if not IS_WORKER:
        return make(factory.mktemp(name))
    from filelock import FileLock

    folder = factory.getbasetemp().parent / name  # each worker has a base of its own in it
    kept = folder.with_suffix(".pickle")
    with FileLock(folder.with_suffix(".lock")):
        if not kept.exists():
            folder.mkdir(exist_ok=True)  # an attempt that failed leaves it
            kept.write_bytes(pickle.dumps(make(folder)))
        return pickle.loads(kept.read_bytes())
