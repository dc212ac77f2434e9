"""Graphs that show what is inside them, and runners that hand it on.

The pipeline itself feeds them, part by part, so that what is seen are its own patches and tables,
and no more of a photo at a time than its memory allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from m2a.calibration.photos import Photo
from m2a.graphs.float16 import float_tensors
from m2a.runtime.backends import DEFAULT_BACKEND, Runner, open_runners
from m2a.runtime.bundle import GRAPHS, Bundle
from m2a.runtime.deblurrer import Deblurrer
from m2a.runtime.images import read_photo
from m2a.runtime.loading import allowed_memory
from m2a.runtime.pixels import check_pixels
from m2a.runtime.windows import PaddedPicture

Values = Mapping[str, NDArray[Any]]
Record = Callable[[Values], None]


def showing_tensors(graph: bytes, tensors: Iterable[str]) -> bytes:
    """A graph with inner tensors as outputs too.

    Args:
        graph: serialised.
        tensors: f32 tensors of it.
    """
    model = onnx.load_model_from_string(graph)
    for name in tensors:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    content: bytes = model.SerializeToString()
    return content


def showing_extremes(graph: bytes) -> tuple[bytes, dict[str, str]]:
    """A graph with the extremes of every float tensor that it computes as outputs too.

    Args:
        graph: serialised, FP32.

    Returns:
        The graph, and output → the node whose result it is the smallest or largest value of; or
        NaN where it holds a value that is not finite, else 0: a maximum may pass over a NaN.
    """
    model = onnx.load_model_from_string(graph)
    types = float_tensors(model.graph)
    shown: dict[str, str] = {}
    model.graph.initializer.append(
        numpy_helper.from_array(np.zeros((), np.float32), "zero_of_extremes")
    )
    for node in list(model.graph.node):
        for tensor in node.output:
            if tensor not in types:
                continue
            for operator in ("ReduceMin", "ReduceMax", "ReduceSum"):
                output = f"{tensor}_{operator}"
                model.graph.node.append(
                    helper.make_node(operator, [tensor], [output], output, keepdims=0)
                )
                if operator == "ReduceSum":
                    total, output = output, f"{tensor}_finite"
                    model.graph.node.append(
                        helper.make_node("Mul", [total, "zero_of_extremes"], [output], output)
                    )
                shown[output] = node.name
                model.graph.output.append(
                    helper.make_tensor_value_info(output, TensorProto.FLOAT, [])
                )
    return model.SerializeToString(), shown


class RecordingRunner:
    """Runs a graph with more outputs than its contract has, and hands those on.

    Attributes:
        backend: of the runner inside.
    """

    def __init__(self, runner: Runner, outputs: Iterable[str], record: Record) -> None:
        self.backend = runner.backend
        self._runner, self._outputs, self._record = runner, tuple(outputs), record

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """See `Runner.run`."""
        found = self._runner.run(feeds)
        self._record({name: found.pop(name) for name in self._outputs})
        return found


def open_graphs(
    bundle: Bundle,
    graphs: Mapping[str, bytes],
    *,
    precision: str,
    max_memory: int | None = None,
    recorded: Mapping[str, tuple[Iterable[str], Record]] | None = None,
    opened: Mapping[str, Runner] | None = None,
) -> Deblurrer:
    """Opens graphs that are in no bundle yet, as `m2a.load` opens those that are.

    Args:
        bundle: the network's, with its threshold and dilation.
        graphs: `mask` and `restore`, serialised.
        precision: of the graphs, for people.
        max_memory: as `m2a.load`.
        recorded: graph → its outputs beyond the contract, and who gets them.
        opened: graph → a runner of it, to take instead of opening it once more.

    Raises:
        BackendError: ONNX Runtime does not take a graph.
        UsageError: the memory does not suffice.
    """
    runners: dict[str, Runner] = dict(opened or {})
    closed = [name for name in GRAPHS if name not in runners]
    found = open_runners([graphs[name] for name in closed], backend=DEFAULT_BACKEND)
    runners.update(zip(closed, found, strict=True))
    for name, (outputs, record) in (recorded or {}).items():
        runners[name] = RecordingRunner(runners[name], outputs, record)
    return Deblurrer(
        bundle,
        mask=runners["mask"],
        restore=runners["restore"],
        precision=precision,
        threshold=bundle.threshold,
        dilate=bundle.dilate,
        max_memory=allowed_memory(bundle, max_memory),
    )


def restore_photo(deblurrer: Deblurrer, photo: Photo) -> int:
    """Runs a photo through both graphs, with the mask that it predicts.

    Returns:
        The pixels that were restored.

    Raises:
        ImageError: it cannot be read.
        BackendError: the backend failed.
    """
    picture = PaddedPicture(check_pixels(read_photo(photo.path).pixels))
    mask = deblurrer.active(deblurrer.predict(picture))
    if mask.any():
        deblurrer.restore(picture, mask, restoration=deblurrer.gathered)
    return int(mask.sum())
