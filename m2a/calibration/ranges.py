"""Ranges of activations on real photos, by ONNX Runtime's own calibrators.

The pipeline computes; what it shows goes into a calibrator piece by piece, so that of no photo more
is held than one part, and of all photos a histogram each tensor.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
from onnxruntime.quantization.calibrate import create_calibrator

from m2a.calibration.photos import Photo, no_blur_in
from m2a.calibration.recording import Values, open_graphs, restore_photo, showing_tensors
from m2a.graphs.contract import IR_VERSION, OPSET
from m2a.graphs.int8 import quantizable
from m2a.runtime.bundle import GRAPHS, Bundle
from m2a.runtime.loading import allowed_memory
from m2a.runtime.parts import smallest_memory


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """What was measured.

    Attributes:
        largest: graph → tensor → the largest |x| to keep.
        restored: of each photo, in their order, the pixels that were restored.
    """

    largest: Mapping[str, Mapping[str, float]]
    restored: tuple[int, ...]


METHODS: Mapping[str, CalibrationMethod] = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
"""Name → ONNX Runtime's method. `minmax` keeps the largest value, `entropy` the range that loses
least information, `percentile` all but 0.001 % of the values."""


BINS = 2048
"""Bins of a histogram at first. With ONNX Runtime's own 128, as many as the steps, `entropy` could
leave nothing out."""

STEPS = 128
"""Steps into which `entropy` merges the bins."""

SHOWN = 4
"""How many times the memory of a graph it takes, about, to show its tensors and to have them
counted: measured 3.1 times for the restorer of `small`."""


def measure_ranges(
    bundle: Bundle,
    photos: Sequence[Photo],
    *,
    method: str,
    max_memory: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Ranges:
    """Measures what every tensor that can be quantised needs.

    Every photo goes through the pipeline in FP32, with the mask that it predicts.

    Args:
        bundle: holds FP32 graphs.
        photos: with motion blur.
        method: a key of `METHODS`.
        max_memory: as `m2a.load`.
        progress: called with each step's name.

    Raises:
        UsageError: in none of the photos blur was found, so that nothing was gathered.
        ImageError: a photo cannot be read.
        BackendError: the backend failed.
    """
    graphs, tensors = _graphs_of(bundle), tensors_of(bundle)
    with contextlib.ExitStack() as stack:
        calibrators = {
            name: stack.enter_context(_Calibrator(tensors[name], method)) for name in GRAPHS
        }
        deblurrer = open_graphs(
            bundle,
            {name: showing_tensors(graphs[name], tensors[name]) for name in GRAPHS},
            precision="fp32",
            max_memory=_share_of(bundle, max_memory),
            recorded={name: (tensors[name], calibrators[name].add) for name in GRAPHS},
        )
        restored = []
        for number, photo in enumerate(photos, 1):
            progress(f"calibrating with {photo.path.name} ({number} of {len(photos)})")
            restored.append(restore_photo(deblurrer, photo))
        if not calibrators["restore"].pieces:
            raise no_blur_in(photos, bundle.threshold)
        largest = {name: calibrators[name].largest() for name in GRAPHS}
        return Ranges(largest=largest, restored=tuple(restored))


def _share_of(bundle: Bundle, max_memory: int | None) -> int:
    """What the graphs themselves may take, so that with what they show it is what was allowed.

    Too little for the smallest part stays as it is, and is refused where the graphs are opened.
    """
    allowed = allowed_memory(bundle, max_memory)
    return max(allowed // SHOWN, min(allowed, smallest_memory(bundle.network)))


def tensors_of(bundle: Bundle) -> dict[str, list[str]]:
    """Graph → the tensors whose ranges are measured, all that can be rounded."""
    return {
        name: sorted(set(quantizable(onnx.load_model_from_string(graph)).values()))
        for name, graph in _graphs_of(bundle).items()
    }


def _graphs_of(bundle: Bundle) -> dict[str, bytes]:
    return {name: bundle.graph(name, precision="fp32") for name in GRAPHS}


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
            extra_options={"symmetric": True, "num_bins": BINS, "num_quantized_bins": STEPS},
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
        if self._method == CalibrationMethod.Entropy:
            _rebin(self._calibrator.collector.histogram_dict)
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


def _rebin(histograms: dict[str, tuple[Any, ...]]) -> None:
    """Gives histograms that grew their first number of bins again, in place.

    ONNX Runtime keeps the width of the bins that the first piece had: the range would depend on the
    order of the photos, and the search for it takes the square of the number of bins.
    """
    for tensor, (counts, edges, lowest, highest, end) in histograms.items():
        if len(counts) == BINS:
            continue
        centres = (edges[:-1] + edges[1:]) / 2
        merged, wider = np.histogram(centres, BINS, range=(-end, end), weights=counts)
        histograms[tensor] = (merged.astype(np.int64), wider, lowest, highest, end)


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
