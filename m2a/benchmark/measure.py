"""Measuring a deblurrer: every stage, at one coverage after another, beside the dense network."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2a.benchmark.alone import seconds_alone
from m2a.benchmark.matmul import FLOP, matmul_work
from m2a.benchmark.timing import Timing, in_turns, seconds_of
from m2a.errors import UsageError
from m2a.machine.cores import usable_cores
from m2a.runtime.backends import DEFAULT_BACKEND, open_runners
from m2a.runtime.bundle import Bundle
from m2a.runtime.deblurrer import Deblurrer
from m2a.runtime.decoding import decode_photo
from m2a.runtime.encoding import encode_photo
from m2a.runtime.graph_inputs import unit_planes
from m2a.runtime.photo import Photo
from m2a.runtime.pixels import Pixels, check_pixels
from m2a.runtime.sites import PATCH, build_sites, pad_mask
from m2a.runtime.stopwatch import Stopwatch
from m2a.runtime.windows import PaddedPicture

COMPUTED = ("pad", "mask", "threshold", "tables", "patches", "restore", "scatter")
"""The stages from mask to scatter: all but decoding and encoding."""

DENSE, LIMIT = "dense", "matmul"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One picture to time.

    Attributes:
        name: what it is called in the results.
        encoded: the picture as a file.
        suffix: of the file's format, which is encoded again.
        pixels: uint8 or uint16 [H, W, 1 or 3].
        mask: bool [H, W], the pixels to restore; the predicted mask is computed and timed too.
    """

    name: str
    encoded: bytes
    suffix: str
    pixels: Pixels
    mask: NDArray[np.bool_]

    @classmethod
    def of(cls, name: str, pixels: Pixels, mask: NDArray[np.bool_]) -> Case:
        """A picture that is no file yet; it is encoded as JPEG."""
        encoded = encode_photo(Photo(pixels=pixels), suffix=".jpg", origin=name)
        return cls(name=name, encoded=encoded, suffix=".jpg", pixels=pixels, mask=mask)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One picture in one precision.

    Attributes:
        case: its name.
        precision: of the graphs.
        size: (H, W).
        coverage: restored pixels / all pixels.
        stages: stage → timing.
        total: from mask to scatter, with what lies between the stages.
        rate: of the restoration graph alone, in GFLOP/s, its arithmetic counted as for a solid
            mask.
        share_of_limit: that rate over the best rate of matrix products in the same run.
        tables_share: the stages `tables` and `patches` over the stage `restore`; None where it is
            run densely.
        products_and_gathers: seconds of the products and gathers of the restoration graph as the
            bundle has it, each timed alone and in one piece; what runs on the CPU takes them in
            slices and may take less. None where it is run densely, in another precision, or not
            on the CPU.
    """

    case: str
    precision: str
    size: tuple[int, int]
    coverage: float
    stages: Mapping[str, Timing]
    total: Timing
    rate: float
    share_of_limit: float
    tables_share: float | None
    products_and_gathers: float | None


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What a run of `m2a bench` found.

    Attributes:
        measured: in the order in which they were asked for.
        dense: size → timing of the branch-fused dense restorer in the same runtime and run; empty
            where the bundle has none (`m2a export --with-dense`).
        limit: GFLOP/s of the best product of two 1024×1024 matrices in the same run.
        backend: who computed.
        threads: that computed, on the CPU.
        peak_memory: bytes, of the whole process up to the end; None where the system does not
            tell.
    """

    measured: Sequence[Measured]
    dense: Mapping[tuple[int, int], Timing]
    limit: float
    backend: str
    threads: int
    peak_memory: int | None

    def to_json(self) -> dict[str, Any]:
        """Returns everything as JSON values, times in seconds."""
        return {
            "backend": self.backend,
            "threads": self.threads,
            "matmul_gflop_per_s": self.limit,
            "peak_memory_bytes": self.peak_memory,
            "dense": [
                {"size": list(size), **asdict(timing)} for size, timing in self.dense.items()
            ],
            "measured": [asdict(measured) for measured in self.measured],
        }


def measure(
    bundle: Bundle,
    deblurrers: Sequence[Deblurrer],
    cases: Sequence[Case],
    *,
    warmup: int,
    repeats: int,
    threads: int | None,
    progress: Callable[[str], None] = lambda _: None,
) -> Benchmark:
    """Times every case on every deblurrer, the dense network and a matrix product, in turns.

    Args:
        bundle: the bundle that the deblurrers were opened from.
        deblurrers: one per precision, on one backend.
        cases: the pictures.
        warmup: rounds that do not count.
        repeats: rounds that do.
        threads: that the deblurrers were opened with; None for all usable cores.
        progress: called with the name of what begins.

    Returns:
        The `Benchmark`.

    Raises:
        UsageError: there is nothing to measure.
        BackendError: the backend failed.
    """
    if not cases or not deblurrers or repeats < 1 or warmup < 0:
        raise UsageError("expected at least one picture, one precision and one repeat")
    backend = deblurrers[0].backend
    work: dict[str, Callable[[], Mapping[str, float]]] = {}
    for case in cases:
        for deblurrer in deblurrers:
            work[f"{case.name} {deblurrer.precision}"] = _stages_of(deblurrer, case)
    sizes = {case.pixels.shape[:2]: case for case in cases}
    if bundle.dense is not None:
        (dense,) = open_runners([bundle.dense_graph()], backend=backend, threads=threads)
        for (height, width), case in sizes.items():
            feeds = _dense_inputs(case.pixels)
            work[f"{DENSE} {width}x{height}"] = _once(functools.partial(dense.run, feeds))
    product = matmul_work(backend=backend, threads=threads)
    work[LIMIT] = _once(lambda: [product() for _ in range(4)])
    alone = {
        f"{case.name} {deblurrer.precision}": _alone(bundle, deblurrer, case, threads)
        for case in cases
        for deblurrer in deblurrers
        if _is_gathered(deblurrer, case)
    }
    taken = in_turns(work, warmup=warmup, repeats=repeats, progress=progress)
    limit = 4 * FLOP / taken[LIMIT]["all"].p25 / 1e9
    flop = float(bundle.manifest["model"]["flop_per_pixel"]["restore"])
    measured = []
    for case in cases:
        for deblurrer in deblurrers:
            stages = dict(taken[f"{case.name} {deblurrer.precision}"])
            total = stages.pop("total")
            restore = stages.get("restore")
            rate = 0.0 if restore is None else flop * case.mask.sum() / restore.median / 1e9
            measured.append(
                Measured(
                    case=case.name,
                    precision=deblurrer.precision,
                    size=(case.pixels.shape[0], case.pixels.shape[1]),
                    coverage=float(case.mask.mean()),
                    stages=stages,
                    total=total,
                    rate=rate,
                    share_of_limit=rate / limit,
                    tables_share=_tables_share(stages),
                    products_and_gathers=alone.get(f"{case.name} {deblurrer.precision}"),
                )
            )
    return Benchmark(
        measured=measured,
        dense={
            (size[0], size[1]): taken[name]["all"]
            for size in sizes
            if (name := f"{DENSE} {size[1]}x{size[0]}") in taken
        },
        limit=limit,
        backend=backend,
        threads=threads or usable_cores(),
        peak_memory=peak_memory(),
    )


def peak_memory() -> int | None:
    """Returns the largest resident set of this process so far, in bytes."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def _stages_of(deblurrer: Deblurrer, case: Case) -> Callable[[], Mapping[str, float]]:
    def once() -> Mapping[str, float]:
        watch = Stopwatch()
        with watch.stage("decode"):
            decode_photo(case.encoded, origin=case.name)
        # The mask is given, so that its coverage is what it should be; a predicted one costs the
        # same, and is computed first.
        began = time.perf_counter()
        probability = deblurrer.predict(PaddedPicture(check_pixels(case.pixels)), watch)
        with watch.stage("threshold"):
            deblurrer.active(probability)
        result = deblurrer(case.pixels, mask=case.mask)
        total = time.perf_counter() - began
        with watch.stage("encode"):
            encode_photo(Photo(pixels=result.image), suffix=case.suffix, origin=case.name)
        for stage, seconds in result.seconds.items():
            watch.seconds[stage] = watch.seconds.get(stage, 0.0) + seconds
        return {**watch.seconds, "total": total}

    return once


def _tables_share(stages: Mapping[str, Timing]) -> float | None:
    if not {"tables", "patches", "restore"} <= set(stages):
        return None
    return (stages["tables"].median + stages["patches"].median) / stages["restore"].median


def _is_gathered(deblurrer: Deblurrer, case: Case) -> bool:
    """Whether the bundle's restoration graph in FP32 is computed, by the CPU."""
    return (
        deblurrer.backend == DEFAULT_BACKEND
        and deblurrer.precision == "fp32"
        and deblurrer.restoration_for(case.mask) is deblurrer.gathered
    )


def _alone(bundle: Bundle, deblurrer: Deblurrer, case: Case, threads: int | None) -> float:
    sites = build_sites(pad_mask(case.mask))
    patches = np.zeros((len(sites.pixels), 3 * PATCH * PATCH), np.float32)
    graph = bundle.graph("restore", precision=deblurrer.precision)
    return seconds_alone(graph, {"patches": patches, **sites.tables}, threads=threads)


def _once(work: Callable[[], object]) -> Callable[[], Mapping[str, float]]:
    return lambda: seconds_of(work)


def _dense_inputs(pixels: Pixels) -> dict[str, NDArray[np.float32]]:
    picture = PaddedPicture(check_pixels(pixels))
    return {
        "image": unit_planes(picture.surroundings(picture.box), picture.scale),
        "mask": np.ones((1, 1, picture.box.height, picture.box.width), np.float32),
    }
