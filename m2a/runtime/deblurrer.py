"""One call from a blurred picture to a deblurred one (DESIGN section 7).

decode → pad → mask graph → threshold and dilate → tables → patches → restoration graph → add the
residual at active pixels. Both graphs run in as many spatial parts as keep within the memory
(`m2a.runtime.parts`); `verify` feeds each of them from elsewhere.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2a.errors import BackendError, EngineError, MissingDependencyError, UsageError
from m2a.machine.memory import read_memory
from m2a.runtime.backends import (
    DEFAULT_BACKEND,
    PIPELINES,
    Runner,
    check_backend,
    open_runners,
)
from m2a.runtime.bundle import GRAPHS, Bundle, find_bundle
from m2a.runtime.images import read_photo
from m2a.runtime.parts import mask_parts, restore_parts, smallest_memory
from m2a.runtime.pixels import Colour, Pixels, check_pixels
from m2a.runtime.sites import (
    CELL,
    build_sites,
    dilate,
    extract_patches,
    mask_graph_image,
    pad_mask,
    padded_size,
)
from m2a.runtime.windows import Box, PaddedPicture, to_unit

SHARE_OF_MEMORY = 0.25
"""Of the memory that the machine has free: what the graphs may take unless told otherwise."""

UNKNOWN_MEMORY = 2**31
"""Bytes to count on where the system does not tell its memory."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a call returns; the arrays are the caller's.

    Attributes:
        image: the deblurred picture, with the shape, dtype and range of the input.
        mask: bool [H, W], the pixels that were restored: after threshold and dilation, or the
            mask that was given.
        probability: f32 [H, W] of visible motion blur, from the mask predictor; None where a
            mask was given.
        coverage: active pixels / all pixels, 0 to 1.
        motion: f32 [H'/4, W'/4, 4], the trajectory d(t) = a·t + b·t², t ∈ [-1, 1], as
            (a_x, a_y, b_x, b_y) in pixels per 4×4 cell, where H' and W' are H and W rounded up
            to multiples of 32; NaN where nothing was restored. a and -a give the same blur.
        seconds: wall time per stage, in the order in which they ran.
        backend: who computed the graphs.
    """

    image: Pixels
    mask: NDArray[np.bool_]
    probability: NDArray[np.float32] | None
    coverage: float
    motion: NDArray[np.float32]
    seconds: Mapping[str, float]
    backend: str


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What the restoration stage returns.

    Attributes:
        residual: f32 [H, W, 3], zero at inactive pixels.
        motion: f32 [H'/4, W'/4, 4], NaN at inactive sites.
    """

    residual: NDArray[np.float32]
    motion: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class RestoredPart:
    """The restoration of one box.

    Attributes:
        box: in the picture, without padding.
        mask: bool [h, w], the active pixels of the box.
        residual: f32 [N, 3], a row per active pixel, row-major.
        cells: the 4×4 cells of the padded picture that `motion` covers.
        motion: f32 [h / 4, w / 4, 4], NaN at inactive sites.
    """

    box: Box
    mask: NDArray[np.bool_]
    residual: NDArray[np.float32]
    cells: Box
    motion: NDArray[np.float32]


class Stopwatch:
    """Wall time per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the block's time to the stage `name`."""
        began = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began


class Deblurrer:
    """A bundle opened on a backend. Call it with a picture; on ONNX Runtime threads may share it.

    Attributes:
        bundle: the bundle it was opened from.
        backend: who computes the graphs: the backend asked for, or the fallback allowed.
        precision: of the bundle's graphs that it computes.
        threshold: a pixel is active where its probability is at least this.
        dilate: radius in pixels by which the mask is then dilated.
        max_memory: bytes that the graphs may take at a time, about.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        mask: Runner,
        restore: Runner,
        precision: str,
        threshold: float,
        dilate: int,
        max_memory: int,
    ) -> None:
        check_active_pixels(threshold, dilate)
        if max_memory < (least := smallest_memory(bundle.network)):
            raise UsageError(
                f"this network needs at least {least / 2**20:.0f} MiB at a time, "
                f"found a limit of {max_memory / 2**20:.0f} MiB"
            )
        self.bundle = bundle
        self.backend = mask.backend
        self.precision = precision
        self.threshold = threshold
        self.dilate = dilate
        self.max_memory = max_memory
        self._mask, self._restore = mask, restore

    def __call__(
        self, image: Pixels | str | Path, *, mask: NDArray[np.bool_] | None = None
    ) -> Result:
        """Deblurs a picture.

        Args:
            image: an array [H, W] or [H, W, C] — grey, grey + alpha, RGB or RGB + alpha for
                C = 1, 2, 3, 4 — of uint8, uint16 or floating point in [0, 1]; or the path of a
                photograph.
            mask: bool [H, W], the pixels to restore, taken as it is; predicted if not given.

        Returns:
            The `Result`. Pixels outside its mask equal the input exactly; alpha is untouched.

        Raises:
            ImageError: the file cannot be read, or the array is not a picture.
            UsageError: the mask does not fit the picture.
            BackendError: the backend failed.
        """
        watch = Stopwatch()
        colour = read_colour(image, watch)
        size = (colour.height, colour.width)
        if mask is not None:
            check_mask(mask, size)
        picture = PaddedPicture(colour)
        probability = None
        if mask is None:
            probability = self.predict(picture, watch)
            with watch.stage("threshold"):
                mask = self.active(probability)
        output = colour.source.copy()
        motion = no_motion(*picture.size)
        for part in self.restored_parts(picture, mask, watch):
            with watch.stage("scatter"):
                place = part.box.slices
                inner = Colour(source=colour.source[place])
                output[place] = inner.with_residual(part.mask, part.residual)
            motion[part.cells.slices] = part.motion
        return Result(
            image=output,
            mask=mask.copy(),
            probability=probability,
            coverage=float(mask.mean()),
            motion=motion,
            seconds=watch.seconds,
            backend=self.backend,
        )

    def predict(
        self, picture: PaddedPicture, watch: Stopwatch | None = None
    ) -> NDArray[np.float32]:
        """Runs the mask graph, part by part.

        Args:
            picture: the padded picture.
            watch: times the stages `pad` and `mask`.

        Returns:
            f32 [H, W], the probability of visible motion blur.

        Raises:
            BackendError: the backend failed, or returned values that are not finite.
        """
        watch = watch or Stopwatch()
        height, width = picture.size
        probability = np.empty((height, width), np.float32)
        parts = mask_parts(self.bundle.network, picture.box, memory=self.max_memory)
        for box, outer in parts:
            with watch.stage("pad"):
                planes = mask_graph_image(picture.surroundings(outer))
                image = to_unit(planes, picture.scale)
            with watch.stage("mask"):
                found = self._mask.run({"image": image})["mask"][0, 0]
                rows, columns = box.slices
                # The box may reach into the padding; the picture ends before.
                inner = found[box.inside(outer).slices][: height - box.top, : width - box.left]
                probability[rows, columns] = inner
            # A NaN is below every threshold: unnoticed, the picture would count as sharp.
            check_finite(bool(np.isfinite(inner).all()), self.backend)
        return probability

    def active(self, probability: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Thresholds and dilates a probability [H, W] without padding into a mask."""
        return dilate(probability >= self.threshold, self.dilate)

    def restore(
        self,
        picture: PaddedPicture,
        mask: NDArray[np.bool_],
        watch: Stopwatch | None = None,
    ) -> Restored:
        """Runs the restoration graph on the active pixels, and keeps all of it.

        Args:
            picture: the padded picture.
            mask: bool [H, W] without padding.
            watch: times the stages `pad`, `tables`, `patches` and `restore`.

        Returns:
            The residual and the motion.

        Raises:
            BackendError: as `restored_parts`.
        """
        residual = np.zeros((*picture.size, 3), np.float32)
        motion = no_motion(*picture.size)
        for part in self.restored_parts(picture, mask, watch):
            residual[part.box.slices][part.mask] = part.residual
            motion[part.cells.slices] = part.motion
        return Restored(residual=residual, motion=motion)

    def restored_parts(
        self,
        picture: PaddedPicture,
        mask: NDArray[np.bool_],
        watch: Stopwatch | None = None,
    ) -> Iterator[RestoredPart]:
        """Runs the restoration graph on the active pixels, part by part.

        Args:
            picture: the padded picture.
            mask: bool [H, W] without padding.
            watch: times the stages `pad`, `tables`, `patches` and `restore`.

        Yields:
            The parts, which together hold every active pixel once.

        Raises:
            BackendError: the backend failed, or returned values that are not finite.
        """
        watch = watch or Stopwatch()
        padded = pad_mask(mask)
        parts = restore_parts(self.bundle.network, padded, memory=self.max_memory)
        for box, outer in parts:
            with watch.stage("pad"):
                surroundings = picture.surroundings(outer)
            with watch.stage("tables"):
                active = padded[outer.slices]
                sites = build_sites(active)
            with watch.stage("patches"):
                # Gathered as the source has them, the fewest bytes, and only then made float.
                patches = to_unit(extract_patches(surroundings, sites.pixels), picture.scale)
            with watch.stage("restore"):
                outputs = self._restore.run({"patches": patches, **sites.tables})
            residual, rows = outputs["residual"], outputs["motion"]
            finite = np.isfinite(residual).all() and np.isfinite(rows).all()
            check_finite(bool(finite), self.backend)
            motion = np.full((outer.height // CELL, outer.width // CELL, 4), np.nan, np.float32)
            x, y = sites.tables["site_xy"].T
            motion[y, x] = rows
            inner = box.inside(outer)
            kept = np.zeros_like(active)
            kept[inner.slices] = active[inner.slices]
            # Padding is never active, so the box may end where the picture does.
            visible = box.grown(0, within=Box.of(picture.size))
            yield RestoredPart(
                box=visible,
                mask=mask[visible.slices],
                residual=residual[kept[active]],
                cells=box.scaled(CELL),
                motion=motion[inner.scaled(CELL).slices],
            )


def load(
    bundle: str | Path | None = None,
    *,
    backend: str = DEFAULT_BACKEND,
    precision: str = "fp32",
    threshold: float | None = None,
    dilate: int | None = None,
    allow_fallback: bool = False,
    max_memory: int | None = None,
    threads: int | None = None,
) -> Deblurrer:
    """Opens a bundle for deblurring.

    Args:
        bundle: a bundle's directory; None takes `$M2A_BUNDLE` or the one packaged with m2a,
            never the working directory.
        backend: `ort-cpu`, `ort-cuda` or `ort-tensorrt`: ONNX Runtime's execution providers; or
            `tensorrt`, which keeps the whole pipeline on a GPU and runs the bundle's engines.
        precision: which of the bundle's graphs: `fp32`, and what else it holds.
        threshold: a pixel is active where its probability is at least this; None takes the
            bundle's.
        dilate: radius in pixels by which the mask is then dilated; None takes the bundle's.
        allow_fallback: use `ort-cpu` where the backend cannot be used, instead of an error.
        max_memory: bytes that the graphs may take at a time, about, beside the picture and the
            result: larger pictures are computed in parts, with the same result. None takes a
            quarter of the memory that is free now.
        threads: threads that compute; None takes the cores that this process may use.

    Returns:
        The `Deblurrer`; its `backend` says who really computes.

    Raises:
        BundleError: the bundle is missing or damaged.
        UsageError: an argument is out of range, the memory does not suffice, or the bundle lacks
            the precision.
        BackendError: the backend cannot be used on this machine.
        EngineError: `tensorrt` found no engines that it may run; the message says what builds them.
        MissingDependencyError: a package that the backend needs is not installed.
    """
    found = find_bundle(Path(bundle) if bundle is not None else None, working_directory=False)
    return open_bundle_on(
        found,
        backend=backend,
        precision=precision,
        threshold=threshold,
        dilate=dilate,
        allow_fallback=allow_fallback,
        max_memory=max_memory,
        threads=threads,
    )


def open_bundle_on(
    bundle: Bundle,
    *,
    backend: str = DEFAULT_BACKEND,
    precision: str = "fp32",
    threshold: float | None = None,
    dilate: int | None = None,
    allow_fallback: bool = False,
    max_memory: int | None = None,
    threads: int | None = None,
    optimize: bool = True,
) -> Deblurrer:
    """Opens a bundle that was found already: see `load`.

    `optimize=False` computes the graphs as they are written, on one thread: the slow reference.
    """
    threshold = bundle.threshold if threshold is None else threshold
    dilate = bundle.dilate if dilate is None else dilate
    max_memory = _default_memory(bundle) if max_memory is None else max_memory
    if backend in PIPELINES:
        try:
            opened: Deblurrer = importlib.import_module(PIPELINES[backend]).open_on_gpu(
                bundle,
                precision=precision,
                threshold=threshold,
                dilate=dilate,
                max_memory=max_memory,
            )
            return opened
        except (BackendError, EngineError, MissingDependencyError):
            if not allow_fallback:
                raise
        backend = DEFAULT_BACKEND
    check_backend(backend)
    mask, restore = open_runners(
        [bundle.graph(name, precision=precision) for name in GRAPHS],
        backend=backend,
        allow_fallback=allow_fallback,
        optimize=optimize,
        threads=threads,
    )
    return Deblurrer(
        bundle,
        mask=mask,
        restore=restore,
        precision=precision,
        threshold=threshold,
        dilate=dilate,
        max_memory=max_memory,
    )


def _default_memory(bundle: Bundle) -> int:
    memory = read_memory()
    free = UNKNOWN_MEMORY if memory is None else memory.free
    return max(int(free * SHARE_OF_MEMORY), smallest_memory(bundle.network))


def read_colour(image: Pixels | str | Path, watch: Stopwatch) -> Colour:
    """The picture of a call: an array, or a photograph, whose reading is the stage `decode`.

    Raises:
        ImageError: the file cannot be read, or the array is not a picture.
    """
    if isinstance(image, (str, Path)):
        with watch.stage("decode"):
            photo = read_photo(Path(image))
            image = photo.pixels
            if photo.alpha is not None:
                image = np.concatenate([image, photo.alpha[:, :, None]], axis=2)
    return check_pixels(np.asarray(image))


def check_finite(finite: bool, backend: str) -> None:
    """Refuses results that are not numbers.

    Raises:
        BackendError: not all of them are finite.
    """
    if not finite:
        raise BackendError(
            f"{backend} returned values that are not finite; the weights or the "
            "precision are at fault: compare with `m2a verify`"
        )


def check_active_pixels(threshold: float | None, dilate: int | None) -> None:
    """Checks what decides which pixels are active; None is the bundle's own value.

    Raises:
        UsageError: a number is out of range.
    """
    if threshold is not None and not 0 < threshold <= 1:
        raise UsageError(f"the threshold must lie in (0, 1], found {threshold}")
    if dilate is not None and dilate < 0:
        raise UsageError(f"the dilation must not be negative, found {dilate}")


def check_mask(mask: NDArray[Any], size: tuple[int, int]) -> None:
    """Checks a caller's mask against the picture's (H, W).

    Raises:
        UsageError: it is not a bool [H, W].
    """
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != size:
        found = f"{getattr(mask, 'dtype', type(mask).__name__)}{list(np.shape(mask))}"
        raise UsageError(f"the mask is {found}, expected bool{list(size)}, the picture's size")


def no_motion(height: int, width: int) -> NDArray[np.float32]:
    """The motion of a picture [H, W] of which nothing was restored."""
    cells = (padded_size(height) // CELL, padded_size(width) // CELL)
    return np.full((*cells, 4), np.nan, np.float32)
