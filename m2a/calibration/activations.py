"""How large the values inside a network get on real photos: what FP16 must be able to hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import onnx

from m2a.calibration.photos import Photo, no_blur_in
from m2a.calibration.recording import Record, Values, open_graphs, restore_photo, showing_extremes
from m2a.errors import PrecisionError
from m2a.graphs.float16 import fp32_nodes
from m2a.runtime.bundle import GRAPHS, Bundle

MOST = 30_000.0
"""Largest activation that a node in FP16, which ends at 65504, may have on the photos: another
photo may double it."""

TOLD = 5
"""Nodes that are told, those with the largest activations."""


def largest_activations(
    bundle: Bundle,
    photos: Sequence[Photo],
    *,
    max_memory: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, float]:
    """Runs photos through the pipeline in FP32 and looks at every node.

    Args:
        bundle: holds FP32 graphs.
        photos: to look at.
        max_memory: as `m2a.load`.
        progress: called with each step's name.

    Returns:
        Graph and node, as `mask/node_conv2d` → the largest |x| of its results, the largest first;
        of the nodes that FP16 computes in half precision. What is not a number counts as infinite.

    Raises:
        UsageError: in none of the photos blur was found, so that nothing was restored.
        ImageError: a photo cannot be read.
        BackendError: the backend failed.
    """
    largest: dict[str, float] = {}

    def recorder(graph: str, shown: Mapping[str, str]) -> Record:
        def record(values: Values) -> None:
            for output, node in shown.items():
                name = f"{graph}/{node}"
                extreme = abs(float(values[output]))
                largest[name] = max(
                    largest.get(name, 0.0), math.inf if math.isnan(extreme) else extreme
                )

        return record

    graphs, recorded, kept = {}, {}, set()
    for name in GRAPHS:
        single = bundle.graph(name, precision="fp32")
        kept |= {f"{name}/{node}" for node in fp32_nodes(onnx.load_model_from_string(single).graph)}
        graphs[name], shown = showing_extremes(single)
        recorded[name] = (shown, recorder(name, shown))
    deblurrer = open_graphs(
        bundle, graphs, precision="fp32", max_memory=max_memory, recorded=recorded
    )
    for number, photo in enumerate(photos, 1):
        progress(f"activations on {photo.path.name} ({number} of {len(photos)})")
        restore_photo(deblurrer, photo)
    if not any(name.startswith("restore/") for name in largest):
        raise no_blur_in(photos, bundle.threshold)
    ordered = sorted(largest.items(), key=lambda entry: entry[1], reverse=True)
    return {name: value for name, value in ordered if name not in kept}


def check_activations(largest: Mapping[str, float]) -> None:
    """Refuses values that come near the end of FP16.

    Raises:
        PrecisionError: they exceed 30,000; all are named.
    """
    beyond = [f"{name} (|x| up to {value:.3g})" for name, value in largest.items() if value > MOST]
    if beyond:
        raise PrecisionError(
            f"FP16 ends at 65504, and on these photos exceed {MOST:,.0f}: {', '.join(beyond)}. "
            "Keep this model in FP32"
        )
