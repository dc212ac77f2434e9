"""A trial of one backend: a session with a small graph is opened as `m2a run` would, and run."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from m2a.errors import M2AError
from m2a.machine.separate_process import ask

GRAPH = (
    b'\x08\n:Y\n\x11\n\x01a\n\x01b\x12\x01c"\x06MatMul\x12\x05trial'
    b"Z\x13\n\x01a\x12\x0e\n\x0c\x08\x01\x12\x08\n\x02\x08\x02\n\x02\x08\x02"
    b"Z\x13\n\x01b\x12\x0e\n\x0c\x08\x01\x12\x08\n\x02\x08\x02\n\x02\x08\x02"
    b"b\x13\n\x01c\x12\x0e\n\x0c\x08\x01\x12\x08\n\x02\x08\x02\n\x02\x08\x02"
    b"B\x04\n\x00\x10\x14"
)
"""ONNX, opset 20: c = MatMul(a, b), all f32 [2, 2]. TensorRT needs minutes for the bundle's."""

SECONDS = 120
"""A GPU newer than the packages compiles every kernel of theirs when it is first used."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What came of trying a backend.

    Attributes:
        version: ONNX Runtime's own, or None where it could not be imported.
        listed: the execution providers that it was built with.
        failure: why the backend did not compute, or empty where it did.
        lacking: the shared library that could not be found, where that was the reason.
    """

    version: str | None = None
    listed: tuple[str, ...] = ()
    failure: str = ""
    lacking: str = ""


Try = Callable[[str], Trial]
"""The name of a backend → what came of trying it."""


def try_backend(backend: str, *, seconds: float = SECONDS) -> Trial:
    """Tries a backend in a process of its own.

    Args:
        backend: a key of `m2a.runtime.backends.BACKENDS`.
        seconds: after which the trial is a failure.
    """
    reply = ask(__name__, "open_and_run", backend, seconds=seconds)
    if reply.answer is None:
        return Trial(failure=reply.failure, lacking=lacking_library(reply.log))
    failure = str(reply.answer["failure"])
    return Trial(
        version=reply.answer["version"],
        listed=tuple(reply.answer["listed"]),
        failure=failure,
        lacking=lacking_library(reply.log) if failure else "",
    )


def open_and_run(backend: str) -> dict[str, Any]:
    """Opens a session on a backend in this process, which may not survive it, and runs it.

    Returns:
        The fields of a `Trial` that are known inside.
    """
    import numpy as np

    from m2a.runtime.backends import BACKENDS, import_onnxruntime, open_runners

    known: dict[str, Any] = {"version": None, "listed": [], "failure": ""}
    try:
        runtime = import_onnxruntime(extra=BACKENDS[backend].extra)
        known["version"] = str(runtime.__version__)
        known["listed"] = list(runtime.get_available_providers())
        (runner,) = open_runners([GRAPH], backend=backend)
        factor = np.array([[1, 2], [3, 4]], np.float32)
        product = runner.run({"a": factor, "b": factor})["c"]
    except M2AError as error:
        return {**known, "failure": str(error)}
    if not np.array_equal(product, [[7, 10], [15, 22]]):  # exact in every precision
        known["failure"] = f"computes {product.tolist()} for [[7, 10], [15, 22]]"
    return known


def lacking_library(log: str) -> str:
    """Returns the library that a loader's message says it cannot find, or an empty text.

    ONNX Runtime writes the reason why a provider did not start on standard error and nowhere else.
    """
    found = re.search(r"([\w.+-]+\.so[.\d]*): cannot open shared object file", log)
    return found.group(1) if found else ""
