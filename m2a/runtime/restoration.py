"""Restoring the active pixels of a picture, part by part: tables → patches → restoration graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2a.errors import BackendError
from m2a.runtime.backends import Runner
from m2a.runtime.graph_inputs import unit_patches
from m2a.runtime.parts import NetworkShape, restore_parts
from m2a.runtime.sites import CELL, build_sites, pad_mask
from m2a.runtime.stopwatch import Stopwatch
from m2a.runtime.windows import Box, PaddedPicture
from m2a.runtime.workers import Buffer, Workers

__all__ = ["GatheredRestoration", "RestoredPart", "check_finite"]


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


class GatheredRestoration:
    """The restoration graph on packed active pixels."""

    def __init__(
        self, runner: Runner, network: NetworkShape, *, max_memory: int, workers: Workers
    ) -> None:
        self._runner, self._network = runner, network
        self._max_memory, self._workers = max_memory, workers
        self._patches = Buffer()

    def parts(
        self, picture: PaddedPicture, mask: NDArray[np.bool_], watch: Stopwatch
    ) -> Iterator[RestoredPart]:
        """Runs the restoration graph on the active pixels, part by part.

        Args:
            picture: the padded picture.
            mask: bool [H, W] without padding.
            watch: times the stages `pad`, `tables`, `patches`, `restore` and `scatter`.

        Yields:
            The parts, which together hold every active pixel once.

        Raises:
            BackendError: the backend failed, or returned values that are not finite.
        """
        with watch.stage("tables"):
            padded = pad_mask(mask)
        for box, outer in restore_parts(self._network, padded, memory=self._max_memory):
            with watch.stage("pad"):
                surroundings = picture.surroundings(outer)
            with watch.stage("tables"):
                sites = build_sites(padded[outer.slices], self._workers)
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
                finite = np.isfinite(residual).all() and np.isfinite(rows).all()
                check_finite(bool(finite), self._runner.backend)
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
