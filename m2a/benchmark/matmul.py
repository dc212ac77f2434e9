"""The limit: the best rate at which this runtime multiplies matrices on this machine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from m2a.benchmark.operation import operation_graph
from m2a.runtime.backends import open_runners

SIDE = 1024
"""Of the square matrices: large enough for the best rate, small enough for the caches."""

FLOP = 2 * SIDE**3
"""Of one product."""


def matmul_work(*, backend: str, threads: int | None) -> Callable[[], object]:
    """Returns a function that multiplies two f32 matrices of 1024×1024 once.

    Args:
        backend: of `m2a.runtime.backends`.
        threads: as there.

    Raises:
        MissingDependencyError: the package `onnx`, which writes the graph, is not installed.
    """
    graph = operation_graph("MatMul", purpose="Measuring the rate of matrix products")
    (runner,) = open_runners([graph], backend=backend, threads=threads)
    rng = np.random.default_rng(0)
    feeds = {name: rng.standard_normal((SIDE, SIDE), dtype=np.float32) for name in "ab"}
    return lambda: runner.run(feeds)
