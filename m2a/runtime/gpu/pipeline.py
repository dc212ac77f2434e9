"""A picture through both graphs without leaving the GPU (DESIGN section 7).

Up goes the picture, in its own type; down come four counts, and at the end, in one piece, the
mask, the probability, the trajectories and the picture with the residual added.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2a.errors import BackendError
from m2a.runtime.ensemble import Turn
from m2a.runtime.gpu.buffers import Buffers, Layout
from m2a.runtime.gpu.device import Address, Device, Engine, Tensor
from m2a.runtime.gpu.kernels import PATCH_VALUES, Kernels, Picture, Size
from m2a.runtime.gpu.sites import DeviceSites, SiteBuilder
from m2a.runtime.sites import CELL, MOTION_LEVEL
from m2a.runtime.stopwatch import Stopwatch

_WORD = 4
"""Bytes of an f32 or i32."""


@dataclass(frozen=True, kw_only=True)
class Turns:
    """How the graphs see a picture, which is as it is the first time.

    Attributes:
        mask: over which the mean of the logits is taken.
        restore: over which that of the residuals is.
    """

    mask: Sequence[Turn]
    restore: Sequence[Turn]


@dataclass(frozen=True, kw_only=True)
class Downloaded:
    """What came down: views of pinned memory that the next picture overwrites.

    Attributes:
        finite: whether everything that the graphs computed is.
        mask: bool [H, W], after threshold and dilation, or as given.
        probability: f32 [H, W]; None where the mask was given.
        motion: f32 [H'/4, W'/4, 4], NaN at inactive cells; None where no pixel is active.
        picture: like the source, with the residual added at active pixels; None likewise.
    """

    finite: bool
    mask: NDArray[np.bool_]
    probability: NDArray[np.float32] | None
    motion: NDArray[np.float32] | None
    picture: NDArray[Any] | None


class Pipeline:
    """A device with both engines, and the memory that they work in."""

    def __init__(self, device: Device, *, mask: Engine, restore: Engine) -> None:
        self._device, self._mask, self._restore = device, mask, restore
        self._buffers = Buffers(device)
        self._kernels = Kernels(device)
        self._sites = SiteBuilder(device, self._kernels, self._buffers)

    @contextlib.contextmanager
    def deblur(
        self,
        source: NDArray[Any],
        *,
        mask: NDArray[np.bool_] | None,
        threshold: float,
        dilate: int,
        turns: Turns,
        watch: Stopwatch,
    ) -> Iterator[Downloaded]:
        """Deblurs a picture; within, what came down may be read, and no other picture is begun.

        Args:
            source: [H, W] or [H, W, C], as `m2a.runtime.pixels.Colour`; uint8, uint16 or float32.
            mask: bool [H, W], the pixels to restore; predicted if not given.
            threshold: a pixel is active where its probability is at least this.
            dilate: radius in pixels by which the predicted mask is dilated.
            turns: over which the mean is taken.
            watch: times `upload`, `mask` and `restore`, as the host sees them: the first is
                queued only, so that its copy counts as the second's.

        Raises:
            EngineError: an engine does not hold the picture or its active pixels.
            BackendError: the picture is too large, the memory does not suffice, or the GPU failed.
        """
        size = Size(height=source.shape[0], width=source.shape[1])
        results = _Results(size, source)
        with self._idle_afterwards():
            results.lie_at(self._buffers.reserve("results", results.size))
            picture = Picture.of(source, results.at("picture"))
            with watch.stage("upload"):
                self._upload(source, mask, size, results)
            with watch.stage("mask"):
                if mask is None:
                    self._predict(picture, size, results, turns.mask)
                    self._activate(size, results, threshold, dilate)
                counts = self._sites.count(results.at("mask"), size)
            with watch.stage("restore"):
                if counts[0]:
                    self._add_residual(picture, size, results, counts, turns.restore)
                length = results.size if counts[0] else results.size_without_restoring
                memory = self._buffers.pinned("results", length)
                self._device.download(memory, results.at("flag"))
                self._device.wait()
            yield results.read(memory, predicted=mask is None, restored=counts[0] > 0)

    @contextlib.contextmanager
    def _idle_afterwards(self) -> Iterator[None]:
        with self._device.active():
            try:
                yield
            except BaseException:
                # What is still queued uses memory that the next picture may free.
                with contextlib.suppress(BackendError):
                    self._device.wait()
                raise

    def _upload(
        self,
        source: NDArray[Any],
        mask: NDArray[np.bool_] | None,
        size: Size,
        results: _Results,
    ) -> None:
        self._kernels.clear_flag(results.at("flag"))
        staged = self._buffers.pinned("picture", source.nbytes)
        staged.view(source.dtype).reshape(source.shape)[...] = source
        self._device.upload(results.at("picture"), staged)
        if mask is not None:
            staged = self._buffers.pinned("mask", size.padded)
            padded = staged.reshape(size.padded_height, size.padded_width)
            padded[:] = 0
            padded[: size.height, : size.width] = mask
            self._device.upload(results.at("mask"), staged)

    def _predict(
        self, picture: Picture, size: Size, results: _Results, turns: Sequence[Turn]
    ) -> None:
        several = len(turns) > 1
        probability = results.at("probability")
        found = self._buffers.reserve("turned", size.padded * _WORD) if several else probability
        logits = self._buffers.reserve("logits", size.padded * _WORD if several else 0)
        planes = self._buffers.reserve("planes", 3 * size.padded * _WORD)
        for turn in turns:
            self._kernels.planes(picture, planes, size, turn)
            sides = size.turned(turn).padded_sides
            self._mask.enqueue(
                {
                    "image": Tensor(address=planes, shape=(1, 3, *sides)),
                    "mask": Tensor(address=found, shape=(1, 1, *sides)),
                }
            )
            # A NaN is below every threshold: unnoticed, the picture would count as sharp.
            self._kernels.flag_not_finite(found, results.at("flag"), size.padded)
            if several:
                self._kernels.add_logits(found, logits, size, turn, first=turn is turns[0])
        if several:
            self._kernels.mean_probability(logits, probability, size, len(turns))

    def _activate(self, size: Size, results: _Results, threshold: float, dilate: int) -> None:
        mask, probability = results.at("mask"), results.at("probability")
        if not dilate:
            self._kernels.threshold_mask(probability, mask, size, threshold)
            return
        narrow = self._buffers.reserve("narrow", size.padded)
        between = self._buffers.reserve("between", size.padded)
        self._kernels.threshold_mask(probability, narrow, size, threshold)
        self._kernels.dilate(narrow, between, mask, size, dilate)

    def _add_residual(
        self,
        picture: Picture,
        size: Size,
        results: _Results,
        counts: tuple[int, ...],
        turns: Sequence[Turn],
    ) -> None:
        ports = {
            "patches": (counts[0], PATCH_VALUES),
            "residual": (counts[0], 3),
            "motion": (counts[MOTION_LEVEL], 4),
        }
        tensors = {
            name: Tensor(
                address=self._buffers.reserve(name, shape[0] * shape[1] * _WORD), shape=shape
            )
            for name, shape in ports.items()
        }
        residual = tensors["residual"].address
        several = len(turns) > 1
        sums = self._buffers.reserve("sums", 3 * size.padded * _WORD if several else 0)
        for turn in turns:
            first = turn is turns[0]
            if not first:
                turned = self._buffers.reserve("turned mask", size.padded)
                self._kernels.turn_mask(results.at("mask"), turned, size, turn)
                # As many as before, on every level: the picture's sides are whole cells of it.
                self._sites.scan(turned, size.turned(turn))
            sites = self._sites.build(counts)
            self._restore_turned(picture, size, results, tensors, sites, turn)
            if first:
                self._keep_motion(results, tensors["motion"].address, sites)
            if several:
                self._kernels.add_turned_residual(
                    residual, sites.pixels, sums, counts[0], size, turn, first=first
                )
        if several:
            self._kernels.mean_residual(
                sums, sites.pixels, residual, counts[0], size, turn, len(turns)
            )
        self._kernels.add_residual(picture, residual, sites.pixels, counts[0], size)

    def _restore_turned(
        self,
        picture: Picture,
        size: Size,
        results: _Results,
        tensors: dict[str, Tensor],
        sites: DeviceSites,
        turn: Turn,
    ) -> None:
        patches, count = tensors["patches"].address, sites.counts[0]
        self._kernels.patches(picture, sites.pixels, patches, count, size, turn)
        self._restore.enqueue({**tensors, **sites.tables})
        for name in ("residual", "motion"):
            rows, columns = tensors[name].shape
            self._kernels.flag_not_finite(tensors[name].address, results.at("flag"), rows * columns)

    def _keep_motion(self, results: _Results, motion: Address, sites: DeviceSites) -> None:
        site_map, count = sites.tables["site_map"], sites.counts[MOTION_LEVEL]
        grid, cells = results.at("motion"), site_map.shape[0]
        self._kernels.motion_grid(motion, site_map.address, grid, cells, count)


class _Results:
    """The results of one picture, one after the other in one piece of memory.

    Those that are there whether or not anything is restored come first.
    """

    def __init__(self, size: Size, source: NDArray[Any]) -> None:
        self._size, self._source = size, source
        self._start = Address(0)
        self._layout = layout = Layout()
        layout.add("flag", _WORD)
        layout.add("mask", size.padded)
        layout.add("probability", size.padded * _WORD)
        self.size_without_restoring = layout.size
        layout.add("motion", size.padded // CELL**2 * 4 * _WORD)
        layout.add("picture", source.nbytes)
        self.size = layout.size

    def lie_at(self, start: Address) -> None:
        self._start = start

    def at(self, name: str) -> Address:
        return self._start.plus(self._layout.offset(name))

    def read(self, memory: NDArray[Any], *, predicted: bool, restored: bool) -> Downloaded:
        size, source = self._size, self._source
        padded = (size.padded_height, size.padded_width)
        cells = (size.padded_height // CELL, size.padded_width // CELL, 4)

        def view(name: str, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:  # noqa: ANN401
            length = int(np.prod(shape)) * np.dtype(dtype).itemsize
            offset = self._layout.offset(name)
            array: NDArray[Any] = memory[offset : offset + length].view(dtype)
            return array.reshape(shape)

        inside = (slice(size.height), slice(size.width))
        return Downloaded(
            finite=not view("flag", np.int32, (1,)).any(),
            mask=view("mask", np.bool_, padded)[inside],
            probability=view("probability", np.float32, padded)[inside] if predicted else None,
            motion=view("motion", np.float32, cells) if restored else None,
            picture=view("picture", source.dtype, source.shape) if restored else None,
        )
