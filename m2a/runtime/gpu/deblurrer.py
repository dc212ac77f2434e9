"""The one call, on a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2a.runtime.arguments import check_mask, read_colour
from m2a.runtime.bundle import Bundle
from m2a.runtime.deblurrer import Deblurrer
from m2a.runtime.ensemble import mask_turns, turns_of
from m2a.runtime.gpu.device import Device, Engine
from m2a.runtime.gpu.kernels import TYPES
from m2a.runtime.gpu.pipeline import Downloaded, Pipeline, Turns
from m2a.runtime.gpu.runner import DeviceRunner
from m2a.runtime.pixels import Colour, Pixels
from m2a.runtime.restoration import check_finite
from m2a.runtime.result import Result, no_motion, photo_of
from m2a.runtime.stopwatch import Stopwatch


class GpuDeblurrer(Deblurrer):
    """A bundle opened on a device: see `Deblurrer`.

    Any thread may call it; pictures are deblurred one at a time. It is to be dropped in the thread
    that opened it: elsewhere pycuda cannot give its memory back before the process ends, and warns.

    The call goes through `Pipeline`; single stages, which `verify` feeds, build their tables on
    the host and give the device one graph to compute.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: Device,
        mask: Engine,
        restore: Engine,
        backend: str,
        precision: str,
        threshold: float,
        dilate: int,
        ensemble: int = 1,
        max_memory: int,
    ) -> None:
        super().__init__(
            bundle,
            mask=DeviceRunner("mask", mask, device, backend=backend),
            restore=DeviceRunner("restore", restore, device, backend=backend),
            precision=precision,
            threshold=threshold,
            dilate=dilate,
            ensemble=ensemble,
            max_memory=max_memory,
        )
        self._pipeline = Pipeline(device, mask=mask, restore=restore)

    def __call__(
        self, image: Pixels | str | Path, *, mask: NDArray[np.bool_] | None = None
    ) -> Result:
        """Deblurs a picture: see `Deblurrer.__call__`.

        Raises:
            EngineError: the engines do not hold the picture, or that many active pixels.
        """
        watch = Stopwatch()
        colour, photo = read_colour(image, watch)
        if mask is not None:
            check_mask(mask, (colour.height, colour.width))
        with self._pipeline.deblur(
            _of_a_type_with_kernels(colour.source),
            mask=mask,
            threshold=self.threshold,
            dilate=self.dilate,
            turns=Turns(
                mask=mask_turns(self.ensemble, mirrored=self.bundle.network.mask_mirrored),
                restore=turns_of(self.ensemble),
            ),
            watch=watch,
        ) as found:
            check_finite(found.finite, self.backend)
            with watch.stage("download"):
                output = _like_the_source(colour, found)
                return Result(
                    image=output,
                    mask=found.mask.copy(),
                    probability=None if found.probability is None else found.probability.copy(),
                    coverage=float(found.mask.mean()),
                    motion=(
                        no_motion(colour.height, colour.width)
                        if found.motion is None
                        else found.motion.copy()
                    ),
                    seconds=watch.seconds,
                    backend=self.backend,
                    photo=None if photo is None else photo_of(output, photo),
                )


def _of_a_type_with_kernels(source: Pixels) -> Pixels:
    return source if source.dtype in TYPES else source.astype(np.float32)


def _like_the_source(colour: Colour, found: Downloaded) -> Pixels:
    source = colour.source
    if found.picture is None:
        return source.copy()
    if found.picture.dtype == source.dtype:
        return found.picture.copy()
    # It went through float32: what is not restored comes from the source itself.
    out = source.copy()
    colours = slice(colour.channels) if source.ndim == 3 else ...
    out[found.mask, colours] = found.picture[found.mask, colours]
    return out
