"""Restoring the active pixels of a picture, part by part.

Gathered: tables → patches → restoration graph, at a cost that follows the active pixels. Dense: the
same network over every pixel, where next to none is left out and packing them no longer pays. With
an ensemble each part is computed in several turns (`m2a.runtime.ensemble`), and the residual is
their mean.
"""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from m2a.errors import BackendError
from m2a.runtime.backends import Runner
from m2a.runtime.ensemble import Turn, turns_of
from m2a.runtime.graph_inputs import unit_patches, unit_planes
from m2a.runtime.parts import NetworkShape, dense_parts, restore_parts
from m2a.runtime.pixels import Pixels
from m2a.runtime.sites import CELL, SiteBuffers, build_sites, has_active, pad_mask
from m2a.runtime.stopwatch import Stopwatch
from m2a.runtime.windows import Box, PaddedPicture
from m2a.runtime.workers import Buffer, Workers

__all__ = [
    "DENSE_COVERAGE",
    "DenseRestoration",
    "GatheredRestoration",
    "RestoredPart",
    "all_finite",
    "check_finite",
]

DENSE_COVERAGE = 0.75
"""Active pixels / all pixels from which the dense restorer takes less time: on two cores with AVX2,
as `m2a bench` measures it."""


@dataclass(frozen=True, kw_only=True)
class RestoredPart:
    """The restoration of one box.

    Attributes:
        pixels: int64 [N], the box's active pixels, row-major indices into the picture [H, W].
        residual: f32 [N, 3], a row for each of them.
        cells: the 4×4 cells of the padded picture that `motion` covers.
        motion: f32 [h / 4, w / 4, 4], NaN at inactive sites.
    """

    pixels: NDArray[np.int64]
    residual: NDArray[np.float32]
    cells: Box
    motion: NDArray[np.float32]


class Restoration(Protocol):
    """Computes residual and motion of active pixels."""

    def parts(
        self, picture: PaddedPicture, mask: NDArray[np.bool_], watch: Stopwatch
    ) -> Iterator[RestoredPart]:
        """Restores the active pixels, part by part.

        Args:
            picture: the padded picture.
            mask: bool [H, W] without padding.
            watch: times the stages `pad`, `tables`, `patches`, `restore` and `scatter`, of which a
                dense restoration has no `tables` and `patches`.

        Yields:
            The parts, which together hold every active pixel once.

        Raises:
            BackendError: the backend failed, or returned values that are not finite.
        """
        ...


class _RestorationByParts(ABC):
    """Restores box after box, each in all turns of the ensemble."""

    _padding_stage: ClassVar[str]

    def __init__(
        self, network: NetworkShape, *, max_memory: int, workers: Workers, turns: Sequence[Turn]
    ) -> None:
        self._network, self._turns = network, turns
        self.max_memory, self._workers = max_memory, workers

    def parts(
        self, picture: PaddedPicture, mask: NDArray[np.bool_], watch: Stopwatch
    ) -> Iterator[RestoredPart]:
        """See `Restoration.parts`."""
        with watch.stage(self._padding_stage):
            padded = pad_mask(mask)
        for box, outer in self._boxes(padded):
            with watch.stage("pad"):
                surroundings = picture.surroundings(outer)
            active = padded[outer.slices]
            first, *others = self._turns
            residual, motion = self._restored(first, surroundings, active, picture.scale, watch)
            for turn in others:
                more, _ = self._restored(turn, surroundings, active, picture.scale, watch)
                with watch.stage("scatter"):
                    residual += more
            with watch.stage("scatter"):
                if others:
                    residual /= np.float32(len(self._turns))
                pixels = np.flatnonzero(active)
                kept, places = _placed(pixels, box=box, outer=outer, width=picture.size[1])
                part = RestoredPart(
                    pixels=places,
                    residual=residual[kept],
                    cells=box.scaled(CELL),
                    motion=motion[box.inside(outer).scaled(CELL).slices],
                )
            yield part

    @abstractmethod
    def _boxes(self, padded: NDArray[np.bool_]) -> Iterator[tuple[Box, Box]]:
        """Splits a padded mask into boxes, each with what of its surroundings it depends on."""

    @abstractmethod
    def _restored(
        self,
        turn: Turn,
        surroundings: Pixels,
        active: NDArray[np.bool_],
        scale: float,
        watch: Stopwatch,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Restores a box and what it depends on, turned.

        Args:
            turn: how the graph sees it.
            surroundings: [h + 4, w + 4, 3], not turned.
            active: bool [h, w], not turned.
            scale: the value of white.
            watch: of the stages.

        Returns:
            f32 [N, 3], the caller's, the residuals of the active pixels, row-major in the box as it
            is; f32 [h / 4, w / 4, 4], what the graph says of the motion in the turned box.
        """


class GatheredRestoration(_RestorationByParts):
    """The restoration graph on packed active pixels.

    Attributes:
        max_memory: bytes that a part may take, about.

    Args:
        runner: of the graph.
        network: its shape.
        max_memory: bytes that a part may take, about.
        workers: threads that share what NumPy computes.
        turns: of every part, over whose residuals the mean is taken; the motion is the first's.
    """

    _padding_stage = "tables"

    def __init__(
        self,
        runner: Runner,
        network: NetworkShape,
        *,
        max_memory: int,
        workers: Workers,
        turns: Sequence[Turn] = turns_of(1),
    ) -> None:
        super().__init__(network, max_memory=max_memory, workers=workers, turns=turns)
        self._runner = runner
        self._patches, self._tables = Buffer(np.float32), SiteBuffers()

    def _boxes(self, padded: NDArray[np.bool_]) -> Iterator[tuple[Box, Box]]:
        return restore_parts(self._network, padded, memory=self.max_memory)

    def _restored(
        self,
        turn: Turn,
        surroundings: Pixels,
        active: NDArray[np.bool_],
        scale: float,
        watch: Stopwatch,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        with watch.stage("tables"):
            sites = build_sites(
                np.ascontiguousarray(turn.apply(active)), self._workers, self._tables
            )
        with watch.stage("patches"):
            patches = unit_patches(
                np.ascontiguousarray(turn.apply(surroundings)),
                sites.pixels,
                scale,
                workers=self._workers,
                buffer=self._patches,
            )
        with watch.stage("restore"):
            outputs = self._runner.run({"patches": patches, **sites.tables})
        with watch.stage("scatter"):
            residual, rows = outputs["residual"], outputs["motion"]
            check_finite(all_finite(residual) and all_finite(rows), self._runner.backend)
            height, width = sites.shape
            motion = np.full((height // CELL, width // CELL, 4), np.nan, np.float32)
            x, y = sites.tables["site_xy"].T
            motion[y, x] = rows
            if not turn.is_identity:
                row_of = np.empty(sites.shape, np.int32)
                row_of.reshape(-1)[sites.pixels] = np.arange(len(residual), dtype=np.int32)
                residual = residual[turn.undo(row_of)[active]]
        return residual, motion


class DenseRestoration(_RestorationByParts):
    """The dense restorer. It is opened when it is first needed, which most pictures never do.

    Attributes:
        max_memory: bytes that a part may take, about.

    Args:
        open_runner: opens the graph.
        network: its shape.
        max_memory: bytes that a part may take, about.
        workers: threads that share what NumPy computes.
        turns: as those of `GatheredRestoration`.
    """

    _padding_stage = "pad"

    def __init__(
        self,
        open_runner: Callable[[], Runner],
        network: NetworkShape,
        *,
        max_memory: int,
        workers: Workers,
        turns: Sequence[Turn] = turns_of(1),
    ) -> None:
        super().__init__(network, max_memory=max_memory, workers=workers, turns=turns)
        self._open_runner, self._opening = open_runner, threading.Lock()
        self._runner: Runner | None = None
        self._image = Buffer(np.float32)

    def _boxes(self, padded: NDArray[np.bool_]) -> Iterator[tuple[Box, Box]]:
        return dense_parts(self._network, padded, memory=self.max_memory)

    def _restored(
        self,
        turn: Turn,
        surroundings: Pixels,
        active: NDArray[np.bool_],
        scale: float,
        watch: Stopwatch,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        with watch.stage("pad"):
            turned = np.ascontiguousarray(turn.apply(active))
            image = unit_planes(
                turn.apply(surroundings), scale, workers=self._workers, buffer=self._image
            )
            feeds = {"image": image, "mask": turned.astype(np.float32)[None, None]}
        with watch.stage("restore"):
            runner = self._opened()
            outputs = runner.run(feeds)
        with watch.stage("scatter"):
            planes = outputs["residual"][0]
            residual = np.stack([turn.undo(plane)[active] for plane in planes], axis=1)
            cells = has_active(turned)
            found = outputs["motion"][0].transpose(1, 2, 0)
            check_finite(all_finite(residual) and all_finite(found[cells]), runner.backend)
            motion = np.where(cells[..., None], found, np.float32(np.nan))
        return residual, motion

    def _opened(self) -> Runner:
        with self._opening:
            if self._runner is None:
                self._runner = self._open_runner()
            return self._runner


def all_finite(values: NDArray[np.float32]) -> bool:
    """Whether all are numbers, and none so large that their sum is none any more."""
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(float(values.sum(dtype=np.float32)))


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


def _placed(
    pixels: NDArray[np.int64], *, box: Box, outer: Box, width: int
) -> tuple[slice | NDArray[np.bool_], NDArray[np.int64]]:
    """Which active pixels of `outer` lie in `box`, and their indices in the picture [H, width]."""
    y = pixels // outer.width
    x = pixels - y * outer.width
    # Padding is never active: every active pixel has a place in the picture.
    places = (y + outer.top) * width + (x + outer.left)
    if box == outer:
        return slice(None), places
    inner = box.inside(outer)
    kept = (y >= inner.top) & (y < inner.bottom) & (x >= inner.left) & (x < inner.right)
    return kept, places[kept]
