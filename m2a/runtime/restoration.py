"""Restoring the active pixels of a picture, part by part.

Gathered: tables → patches → restoration graph, at a cost that follows the active pixels. Dense: the
same network over every pixel, where next to none is left out and packing them no longer pays.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from m2a.errors import BackendError
from m2a.runtime.backends import Runner
from m2a.runtime.graph_inputs import unit_patches, unit_planes
from m2a.runtime.parts import NetworkShape, dense_parts, restore_parts
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


class GatheredRestoration:
    """The restoration graph on packed active pixels.

    Attributes:
        max_memory: bytes that a part may take, about.
    """

    def __init__(
        self, runner: Runner, network: NetworkShape, *, max_memory: int, workers: Workers
    ) -> None:
        self._runner, self._network = runner, network
        self.max_memory, self._workers = max_memory, workers
        self._patches, self._tables = Buffer(np.float32), SiteBuffers()

    def parts(
        self, picture: PaddedPicture, mask: NDArray[np.bool_], watch: Stopwatch
    ) -> Iterator[RestoredPart]:
        """See `Restoration.parts`."""
        with watch.stage("tables"):
            padded = pad_mask(mask)
        for box, outer in restore_parts(self._network, padded, memory=self.max_memory):
            with watch.stage("pad"):
                surroundings = picture.surroundings(outer)
            with watch.stage("tables"):
                sites = build_sites(padded[outer.slices], self._workers, self._tables)
            with watch.stage("patches"):
                patches = unit_patches(
                    surroundings,
                    sites.pixels,
                    picture.scale,
                    workers=self._workers,
                    buffer=self._patches,
                )
            with watch.stage("restore"):
                outputs = self._runner.run({"patches": patches, **sites.tables})
            with watch.stage("scatter"):
                residual, rows = outputs["residual"], outputs["motion"]
                check_finite(all_finite(residual) and all_finite(rows), self._runner.backend)
                motion = np.full((outer.height // CELL, outer.width // CELL, 4), np.nan, np.float32)
                x, y = sites.tables["site_xy"].T
                motion[y, x] = rows
                kept, pixels = _placed(sites.pixels, box=box, outer=outer, width=picture.size[1])
                part = RestoredPart(
                    pixels=pixels,
                    residual=residual[kept],
                    cells=box.scaled(CELL),
                    motion=motion[box.inside(outer).scaled(CELL).slices],
                )
            yield part


class DenseRestoration:
    """The dense restorer. It is opened when it is first needed, which most pictures never do.

    Attributes:
        max_memory: bytes that a part may take, about.
    """

    def __init__(
        self,
        open_runner: Callable[[], Runner],
        network: NetworkShape,
        *,
        max_memory: int,
        workers: Workers,
    ) -> None:
        self._open_runner, self._opening = open_runner, threading.Lock()
        self._runner: Runner | None = None
        self._network = network
        self.max_memory, self._workers = max_memory, workers
        self._image = Buffer(np.float32)

    def parts(
        self, picture: PaddedPicture, mask: NDArray[np.bool_], watch: Stopwatch
    ) -> Iterator[RestoredPart]:
        """See `Restoration.parts`."""
        with watch.stage("restore"):
            runner = self._opened()
        padded = pad_mask(mask)
        for box, outer in dense_parts(self._network, padded, memory=self.max_memory):
            with watch.stage("pad"):
                image = unit_planes(
                    picture.surroundings(outer),
                    picture.scale,
                    workers=self._workers,
                    buffer=self._image,
                )
                active = padded[outer.slices]
                feeds = {"image": image, "mask": active.astype(np.float32)[None, None]}
            with watch.stage("restore"):
                outputs = runner.run(feeds)
            with watch.stage("scatter"):
                rows = np.flatnonzero(active)
                kept, pixels = _placed(rows, box=box, outer=outer, width=picture.size[1])
                residual = outputs["residual"].reshape(3, -1).take(rows[kept], axis=1).T
                place = box.inside(outer).scaled(CELL).slices
                found = outputs["motion"][0].transpose(1, 2, 0)[place]
                cells = has_active(active)[place]
                check_finite(all_finite(residual) and all_finite(found[cells]), runner.backend)
                motion = np.where(cells[..., None], found, np.float32(np.nan))
                part = RestoredPart(
                    pixels=pixels, residual=residual, cells=box.scaled(CELL), motion=motion
                )
            yield part

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
