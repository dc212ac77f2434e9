"""Making the INT8 variant of a bundle: calibrated on some photos, judged on others."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from m2a.calibration.gate import Gate, Judge
from m2a.calibration.photos import Photo, PhotoSets, digest_of, judged_on
from m2a.calibration.range_cache import cached_ranges
from m2a.calibration.ranges import Ranges
from m2a.calibration.recording import open_graphs
from m2a.calibration.sensitivity import Choice, choose_kept
from m2a.calibration.variants import Variant, measure
from m2a.graphs.contract import check_contract
from m2a.graphs.int8 import quantizable, to_int8
from m2a.runtime.backends import DEFAULT_BACKEND, Runner, open_runners
from m2a.runtime.bundle import GRAPHS, Bundle

PHOTOS_ALONE = 8
"""Photos on which each part is measured alone, those with most to restore: a rank needs fewer than
a verdict."""

Progress = Callable[[str], None]


def make_int8(
    bundle: Bundle,
    photos: PhotoSets,
    *,
    method: str = "percentile",
    cache: Path | None = None,
    max_memory: int | None = None,
    progress: Progress = lambda _: None,
) -> Variant:
    """Makes and judges the INT8 variant of a bundle.

    Args:
        bundle: holds FP32 graphs and the reference.
        photos: which calibrate and which judge.
        method: a key of `m2a.calibration.ranges.METHODS`.
        cache: the folder that keeps ranges between calls; None keeps none.
        max_memory: as `m2a.load`.
        progress: called with the name of each step as it begins.

    Returns:
        The variant, which passed; nothing is written. Its record says what stays in FP32 and why.

    Raises:
        PrecisionError: the gate cannot be met; the message has the figures.
        UsageError: the photos show no blur, or the memory does not suffice.
        ImageError: a photo cannot be read.
        BundleError: the bundle is damaged.
    """
    ranges = cached_ranges(
        bundle,
        photos.calibrating,
        method=method,
        folder=cache,
        max_memory=max_memory,
        progress=progress,
    )
    network = _Network(bundle, ranges.largest, max_memory)
    choice = _choose(network, photos.judging, _most_restored(photos, ranges), progress)
    graphs = network.graphs(choice.kept)
    for name, content in graphs.items():
        check_contract(onnx.load_model_from_string(content), name, precision="int8")
    progress("comparing INT8 with FP32 on the bundle's reference")
    variant = measure(bundle, "int8", graphs)
    return replace(variant, record=_record(network, photos, method, choice))


class _Network:
    """The graphs of a bundle with any parts in INT8."""

    def __init__(
        self, bundle: Bundle, ranges: Mapping[str, Mapping[str, float]], max_memory: int | None
    ) -> None:
        self.bundle, self._ranges, self._max_memory = bundle, ranges, max_memory
        self.single = {name: bundle.graph(name, precision="fp32") for name in GRAPHS}
        self._models = {n: onnx.load_model_from_string(graph) for n, graph in self.single.items()}
        self.parts = {name: tuple(quantizable(model)) for name, model in self._models.items()}

    @property
    def all_parts(self) -> tuple[str, ...]:
        """Names of the weights that can be in INT8, of both graphs."""
        return tuple(part for name in GRAPHS for part in self.parts[name])

    def graphs(self, keep: Collection[str]) -> dict[str, bytes]:
        """Both graphs, these weights in FP32; a graph with nothing in INT8 is the FP32 one."""
        return {name: self._graph(name, keep) for name in GRAPHS}

    def measured(self, judge: Judge, keep: Collection[str]) -> Gate:
        """The gate's figures with these weights in FP32."""
        graphs = self.graphs(keep)
        unchanged = {
            name: runner
            for name, runner in self._single_runners.items()
            if graphs[name] == self.single[name]
        }
        deblurrer = open_graphs(
            self.bundle,
            graphs,
            precision="int8",
            max_memory=self._max_memory,
            opened=unchanged,
        )
        return judge.judge(deblurrer, own_mask="mask" not in unchanged)

    def judge(self, photos: Sequence[Photo], progress: Progress, *, role: str = "judge") -> Judge:
        """FP32's results on photos, which `role` names for people."""
        single = open_graphs(
            self.bundle,
            self.single,
            precision="fp32",
            max_memory=self._max_memory,
            opened=self._single_runners,
        )
        return Judge(single, photos, role=role, progress=progress)

    @functools.cached_property
    def _single_runners(self) -> dict[str, Runner]:
        """Both graphs in FP32, opened once: a part that is measured alone leaves one of them."""
        runners = open_runners([self.single[name] for name in GRAPHS], backend=DEFAULT_BACKEND)
        return dict(zip(GRAPHS, runners, strict=True))

    def _graph(self, name: str, keep: Collection[str]) -> bytes:
        if set(self.parts[name]) <= set(keep):
            return self.single[name]
        model = to_int8(self._models[name], self._ranges[name], keep=keep)
        content: bytes = model.SerializeToString()
        return content


def _most_restored(photos: PhotoSets, ranges: Ranges) -> tuple[Photo, ...]:
    """The calibrating photos that tell most about a part."""
    ordered = sorted(
        zip(photos.calibrating, ranges.restored, strict=True),
        key=lambda entry: entry[1],
        reverse=True,
    )
    return tuple(photo for photo, _ in ordered[:PHOTOS_ALONE])


def _choose(
    network: _Network, judging: Sequence[Photo], some: Sequence[Photo], progress: Progress
) -> Choice:
    """Chooses on the photos that judge, in the order that some calibrating ones give."""
    parts = network.all_parts
    with contextlib.ExitStack() as stack:
        judge = stack.enter_context(network.judge(judging, progress))

        @functools.cache
        def ranking() -> Judge:
            return stack.enter_context(network.judge(some, progress, role="rank the parts"))

        def alone(part: str) -> Gate:
            return network.measured(ranking(), [other for other in parts if other != part])

        return choose_kept(
            parts, lambda keep: network.measured(judge, keep), alone, progress=progress
        )


def _record(network: _Network, photos: PhotoSets, method: str, choice: Choice) -> dict[str, Any]:
    counts = {
        name: [sum(part not in choice.kept for part in network.parts[name]), len(parts)]
        for name, parts in network.parts.items()
    }
    return {
        "calibration": {
            "method": method,
            "photos": len(photos.calibrating),
            "photos_sha256": digest_of(photos.calibrating),
        },
        "gate": {**choice.gate.to_json(), **judged_on(photos)},
        "gate_with_all_in_int8": None if choice.without is None else choice.without.to_json(),
        "products_in_int8": counts,
        "kept_in_fp32": {part: round(share, 4) for part, share in choice.kept.items()},
    }
