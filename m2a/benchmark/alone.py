"""What of the restoration graph cannot be left out: its products and gathers, each timed alone."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2a.benchmark.operation import operation_graph
from m2a.benchmark.profile import profile_nodes
from m2a.benchmark.timing import seconds_of
from m2a.runtime.backends import DEFAULT_BACKEND, open_runners

__all__ = ["Operation", "operations_of", "seconds_alone"]

_PRODUCTS = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm")
"""What ONNX Runtime makes of the graph's products."""

_WARMUP, _REPEATS = 1, 5


class Operation(NamedTuple):
    """One operation of a graph.

    Attributes:
        kind: `MatMul` or `Gather`.
        rows: of the result.
        inner: K of a product [M, K] x [K, N]; of a gather the rows that it reads from.
        columns: of the result.
    """

    kind: str
    rows: int
    inner: int
    columns: int


def seconds_alone(graph: bytes, feeds: Mapping[str, NDArray[Any]], *, threads: int | None) -> float:
    """The time of a graph's products and gathers, if there were nothing else.

    Each is computed apart, on memory that is warm, gathers in the order of the rows: what the whole
    graph takes beyond it goes into all other operations and into memory that is not warm.

    Args:
        graph: a serialised ONNX model.
        feeds: its inputs.
        threads: that compute; None for all usable cores.

    Returns:
        Seconds, the sum over all of them of a median of five runs.
    """
    found = operations_of(graph, feeds, threads=threads)
    return sum(count * _seconds(one, threads=threads) for one, count in found.items())


def operations_of(
    graph: bytes, feeds: Mapping[str, NDArray[Any]], *, threads: int | None
) -> Counter[Operation]:
    """The products and gathers of rows that ONNX Runtime computes for a graph, and how often."""
    found: Counter[Operation] = Counter()
    for event in profile_nodes(graph, feeds, threads=threads):
        operation = _operation(event["args"])
        if operation is not None:
            found[operation] += 1
    return found


def _operation(details: Mapping[str, Any]) -> Operation | None:
    shapes = [shape for typed in details["input_type_shape"] for shape in typed.values()]
    (result,) = [shape for typed in details["output_type_shape"][:1] for shape in typed.values()]
    if details["op_name"] in _PRODUCTS and len(shapes[0]) == len(result) == 2:
        # Weights that were packed beforehand do not stand among the inputs.
        return Operation("MatMul", result[0], shapes[0][1], result[1])
    if details["op_name"] == "Gather" and len(shapes[0]) == 2 and len(shapes[1]) == 1:
        (inner, columns), (rows,) = shapes
        return Operation("Gather", rows, inner, columns)
    return None


def _seconds(operation: Operation, *, threads: int | None) -> float:
    graph = operation_graph(operation.kind, purpose="Timing operations alone")
    (runner,) = open_runners([graph], backend=DEFAULT_BACKEND, threads=threads)
    rng = np.random.default_rng(0)
    read = (operation.inner, operation.columns)
    if operation.kind == "Gather":
        order = np.arange(operation.rows) * operation.inner // operation.rows
        feeds = {"a": rng.random(read, np.float32), "b": order.astype(np.int32)}
    else:
        shape = (operation.rows, operation.inner)
        feeds = {"a": rng.random(shape, np.float32), "b": rng.random(read, np.float32)}
    times = [seconds_of(lambda: runner.run(feeds))["all"] for _ in range(_WARMUP + _REPEATS)]
    return statistics.median(times[_WARMUP:])
