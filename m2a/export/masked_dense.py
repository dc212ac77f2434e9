"""Deblurring with a checkpoint itself: the masked dense network in torch, on the CPU.

It is the definition that every exported form must equal, and shares with the deployed pipeline
only how a picture becomes float and how a residual is added to its samples. The whole picture is
computed at once: about 1 KB of memory per pixel for `small`.
"""

from __future__ import annotations

import numpy as np
import torch

from m2a.models.network import M2AENet
from m2a.runtime.arguments import check_active
from m2a.runtime.manifest import DEFAULT_DILATE, DEFAULT_THRESHOLD
from m2a.runtime.pixels import Pixels, check_pixels
from m2a.runtime.result import Result, coverage_of
from m2a.runtime.sites import dilate, has_active, pad_mask
from m2a.runtime.stopwatch import Stopwatch

BACKEND = "torch"


class MaskedDenseDeblurrer:
    """A network that is called like a `Deblurrer`.

    Attributes:
        network: in evaluation mode, on the CPU.
        threshold: a pixel is active where its probability is at least this.
        dilate: radius in pixels by which the mask is then dilated.
    """

    def __init__(
        self,
        network: M2AENet,
        *,
        threshold: float = DEFAULT_THRESHOLD,
        dilate: int = DEFAULT_DILATE,
        threads: int | None = None,
    ) -> None:
        """Takes a network; `threads` are torch's in this process, None leaves them as they are."""
        check_active(threshold, dilate)
        if threads is not None:
            torch.set_num_threads(threads)
        self.network = network
        self.threshold = threshold
        self.dilate = dilate

    @torch.no_grad()
    def __call__(self, image: Pixels) -> Result:
        """Deblurs a picture under its predicted mask.

        Args:
            image: an array as `Deblurrer` takes it.

        Returns:
            The `Result`, on the backend "torch".

        Raises:
            ImageError: the array is not a picture.
        """
        watch = Stopwatch()
        colour = check_pixels(image)
        planes = torch.from_numpy(colour.to_float()).permute(2, 0, 1)[None].contiguous()
        with watch.stage("mask"):
            probability = self.network.predict_mask(planes).sigmoid()[0, 0].numpy()
        mask = dilate(probability >= self.threshold, self.dilate)
        with watch.stage("restore"):
            active = torch.from_numpy(mask)[None, None].float()
            residual, motion = self.network.restore(planes, active)
        sites = has_active(pad_mask(mask))[..., None]
        rows = residual[0].permute(1, 2, 0).numpy()[mask]
        return Result(
            image=colour.with_residual(mask, rows),
            mask=mask,
            probability=probability,
            coverage=coverage_of(mask),
            motion=np.where(sites, motion[0].permute(1, 2, 0).numpy(), np.float32(np.nan)),
            seconds=watch.seconds,
            backend=BACKEND,
        )
