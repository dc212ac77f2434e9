"""What ONNX Runtime's own profiler says of a graph, node by node."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from m2a.machine.cores import usable_cores
from m2a.runtime.backends import import_onnxruntime

__all__ = ["gather_share", "profile_nodes"]


def profile_nodes(
    graph: bytes, feeds: Mapping[str, NDArray[Any]], *, threads: int | None, runs: int = 1
) -> list[Mapping[str, Any]]:
    """Runs a graph on the CPU and returns what the profiler noted of every node in every run.

    Args:
        graph: a serialised ONNX model.
        feeds: its inputs.
        threads: that compute; None for all usable cores.
        runs: how often.

    Returns:
        The profiler's events: `dur` in microseconds, in `args` the operation and its shapes.
    """
    runtime = import_onnxruntime(extra="cpu")
    with tempfile.TemporaryDirectory() as folder:
        settings = runtime.SessionOptions()
        settings.log_severity_level = 4
        settings.intra_op_num_threads = threads or usable_cores()
        settings.enable_profiling = True
        settings.profile_file_prefix = str(Path(folder) / "profile")
        session = runtime.InferenceSession(graph, settings, providers=["CPUExecutionProvider"])
        for _ in range(runs):
            session.run(None, dict(feeds))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return [
        event
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    ]


def gather_share(nodes: Iterable[Mapping[str, Any]]) -> float:
    """The share of the nodes' time that goes into gathering rows, 0 to 1."""
    total = gathers = 0.0
    for event in nodes:
        total += event["dur"]
        gathers += event["dur"] * (event["args"]["op_name"] == "Gather")
    return gathers / total
