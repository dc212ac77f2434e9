"""Ranges of activations on real photos, by ONNX Runtime's own calibrators.

The pipeline computes; what it shows goes into a calibrator piece by piece, so that of no photo more
is held than one part, and of all photos a histogram each tensor.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
from onnxruntime.quantization.calibrate import create_calibrator

from m2a.calibration.photos import NEEDED, Photo
from m2a.calibration.recording import Values, open_graphs, showing_tensors
from m2a.errors import UsageError
from m2a.graphs.contract import IR_VERSION, OPSET
from m2a.graphs.int8 import quantizable
from m2a.runtime.bundle import GRAPHS, Bundle
from m2a.runtime.images import read_photo
from m2a.runtime.pixels import check_pixels
from m2a.runtime.windows import PaddedPicture

METHODS: Mapping[str, CalibrationMethod] = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
"""Name → ONNX Runtime's method. `minmax` keeps the largest value, `entropy` the range that loses
least information, `percentile` all but 0.001 % of the values."""


def measure_ranges(
    bundle: Bundle,
    photos: Sequence[Photo],
    *,
    method: str,
    max_memory: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, dict[str, float]]:
    """Measures what every tensor that can be quantised needs.

    Every photo goes through the pipeline in FP32, with the mask that it predicts.

    Args:
        bundle: holds FP32 graphs.
        photos: with motion blur.
        method: a key of `METHODS`.
        max_memory: as `m2a.load`.
        progress: called with each step's name.

    Returns:
        Graph → tensor → the largest |x| to keep.

    Raises:
        UsageError: in none of the photos blur was found, so that nothing was gathered.
        ImageError: a photo cannot be read.
        BackendError: the backend failed.
    """
    graphs = {name: bundle.graph(name, precision="fp32") for name in GRAPHS}
    tensors = {
        name: sorted(set(quantizable(onnx.load_model_from_string(graph)).values()))
        for name, graph in graphs.items()
    }
    with contextlib.ExitStack() as stack:
        calibrators = {
            name: stack.enter_context(_Calibrator(tensors[name], method)) for name in GRAPHS
        }
        deblurrer = open_graphs(
            bundle,
            {name: showing_tensors(graphs[name], tensors[name]) for name in GRAPHS},
            precision="fp32",
            max_memory=max_memory,
            recorded={name: (tensors[name], calibrators[name].add) for name in GRAPHS},
        )
        for number, photo in enumerate(photos, 1):
            progress(f"calibrating with {photo.path.name} ({number} of {len(photos)})")
            picture = PaddedPicture(check_pixels(read_photo(photo.path).pixels))
            mask = deblurrer.active(deblurrer.predict(picture))
            if mask.any():
                deblurrer.restore(picture, mask, restoration=deblurrer.gathered)
        if not calibrators["restore"].pieces:
            raise UsageError(
                f"no motion blur was found in any of {len(photos)} photos at the threshold "
                f"{bundle.threshold:g}, so that there is nothing to calibrate. {NEEDED}"
            )
        return {name: calibrators[name].largest() for name in GRAPHS}


class _Calibrator:
    """One of ONNX Runtime's calibrators, fed with values instead of photos.

    It wants a graph to look into: here one of nothing but inputs, each read by an IsNaN, whose
    result is no float tensor and so is not calibrated beside it.

    Attributes:
        pieces: how often values came in.
    """

    def __init__(self, tensors: Sequence[str], method: str) -> None:
        self.pieces = 0
        self._tensors, self._method = tensors, METHODS[method]
        self._folder = tempfile.TemporaryDirectory(prefix="m2a-calibration-")

    def __enter__(self) -> _Calibrator:
        folder = Path(self._folder.__enter__())
        path = folder / "tensors.onnx"
        onnx.save(_graph_of(self._tensors), path)
        self._calibrator = create_calibrator(
            path,
            op_types_to_calibrate=["IsNaN"],
            augmented_model_path=str(folder / "calibrated.onnx"),
            calibrate_method=self._method,
            extra_options={"symmetric": True},
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del self._calibrator  # its session holds a file open
        self._folder.__exit__(kind, error, trace)

    def add(self, values: Values) -> None:
        """Takes the values of one part."""
        with contextlib.redirect_stdout(io.StringIO()):  # it tells every step
            self._calibrator.collect_data(_OnePiece(values))
        self.pieces += 1

    def largest(self) -> dict[str, float]:
        """Tensor → the largest |x| to keep."""
        with contextlib.redirect_stdout(io.StringIO()):
            found = self._calibrator.compute_data()
        ranges = {}
        for tensor in self._tensors:
            lowest, highest = found[tensor].range_value
            ranges[tensor] = float(max(abs(np.max(highest)), abs(np.min(lowest))))
        return ranges


class _OnePiece(CalibrationDataReader):  # type: ignore[misc]  # it has no types
    """Feeds the tensors, flat, once."""

    def __init__(self, values: Values) -> None:
        self._waiting = [{name: value.reshape(-1) for name, value in values.items()}]

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The values, then None."""
        return self._waiting.pop() if self._waiting else None


def _graph_of(tensors: Sequence[str]) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("IsNaN", [name], [f"{name}_is_nan"], name) for name in tensors],
        "tensors",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in tensors],
        [
            helper.make_tensor_value_info(f"{name}_is_nan", TensorProto.BOOL, [None])
            for name in tensors
        ],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
