"""Validation: the average network on crops of photographs that are never trained on.

They are not the held-out photographs either: what decides about a recipe must not be what its
result is measured on in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray

from m2a.evaluation.metrics import angle_errors, finite_psnr, overlap, psnr
from m2a.models.gathered import GatheredRestorer
from m2a.models.network import M2AENet
from m2a.models.reparameterize import gathered_restorer
from m2a.runtime.manifest import DEFAULT_DILATE, DEFAULT_THRESHOLD
from m2a.runtime.sites import dilate
from m2a.training.batches import RestorationBatch, image_batch, restoration_batch
from m2a.training.protocol import draw_visible
from m2a.training.records import MASKED, VISIBLE, Crops
from m2a.training.samples import Sample, SynthesisConfig, cell_motion

_PREVIEWED = 6


@dataclass(frozen=True, kw_only=True)
class Validated:
    """Means over the validation crops.

    Attributes:
        gain: dB, PSNR inside the true mask, restored under the predicted one.
        gain_true_mask: dB, restored under the true mask.
        iou: of the predicted mask at 0.5, before dilation, with the annotated one.
    """

    gain: float
    gain_true_mask: float
    iou: float


class Validation:
    """Fixed crops, every one with visible local blur.

    Attributes:
        samples: the crops.
    """

    def __init__(
        self, photos: Sequence[NDArray[np.uint8]], config: SynthesisConfig, *, count: int, seed: int
    ) -> None:
        """Draws `count` crops from sharp photographs; sample i from the seed sequence (seed, i)."""
        self.samples = [
            draw_visible(photos, np.random.default_rng((seed, number)), config)
            for number in range(count)
        ]

    @torch.no_grad()
    def measure(self, network: M2AENet) -> tuple[Validated, NDArray[np.uint8]]:
        """Measures a network in evaluation mode, on its device.

        Returns:
            The means, and a sheet to look at, uint8 [H, W, 3]: a row for each of the first six
            crops, as blurred, restored, sharp, predicted mask and true mask.
        """
        gathered = gathered_restorer(network)
        gains, true_gains, ious = [], [], []
        rows: list[NDArray[np.uint8]] = []
        for sample in self.samples:
            found = predicted_mask(network, sample, threshold=DEFAULT_THRESHOLD)
            restored = restore(gathered, sample, dilate(found, DEFAULT_DILATE)).picture
            gains.append(psnr_gain(sample, restored))
            under_truth = restore(gathered, sample, dilate(sample.mask, DEFAULT_DILATE))
            true_gains.append(psnr_gain(sample, under_truth.picture))
            ious.append(overlap(found, sample.mask).iou)
            if len(rows) < _PREVIEWED:
                masks = [
                    np.repeat(m[..., None] * np.uint8(255), 3, axis=2) for m in (found, sample.mask)
                ]
                rows.append(np.hstack([sample.blurred, restored, sample.sharp, *masks]))
        means = Validated(gain=fmean(gains), gain_true_mask=fmean(true_gains), iou=fmean(ious))
        return means, np.vstack(rows)


@torch.no_grad()
def predicted_mask(network: M2AENet, sample: Sample, *, threshold: float) -> NDArray[np.bool_]:
    """Where a network in evaluation mode finds blur, before dilation: bool [H, W]."""
    image = image_batch(torch.from_numpy(sample.blurred[None]).to(_device_of(network)))
    probability = network.predict_mask(image).sigmoid()[0, 0].cpu().numpy()
    found: NDArray[np.bool_] = probability >= threshold
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Restored:
    """One restored sample.

    Attributes:
        picture: uint8 [H, W, 3].
        angle_error: median over the 4×4 cells where blur is visible, degrees modulo 180, as
            `angle_errors`; chance is 45. None where the restored mask holds no such cell.
    """

    picture: NDArray[np.uint8]
    angle_error: float | None


@torch.no_grad()
def restore(gathered: GatheredRestorer, sample: Sample, mask: NDArray[np.bool_]) -> Restored:
    """Restores the pixels of a mask, bool [H, W]."""
    batch = _packed(gathered, sample, mask)
    picture = sample.blurred.copy()
    if batch is None:
        return Restored(picture=picture, angle_error=None)
    residual, motion = gathered(batch.tables)
    display = (batch.blurred + residual).clamp(0, 1).cpu().numpy()
    picture[mask] = np.rint(display * 255).astype(np.uint8)
    errors = angle_errors(motion.cpu().numpy(), batch.motion.cpu().numpy())
    median = float(np.median(errors)) if errors.size else None
    return Restored(picture=picture, angle_error=median)


def _packed(
    gathered: GatheredRestorer, sample: Sample, mask: NDArray[np.bool_]
) -> RestorationBatch | None:
    """One crop as the restorer takes it, on its device; None where the mask is empty."""
    fields = {
        "blurred": sample.blurred,
        "sharp": sample.sharp,
        "label": sample.mask * np.uint8(MASKED) | sample.visible * np.uint8(VISIBLE),
        "motion": cell_motion(sample),
    }
    device = _device_of(gathered)
    one = {name: torch.from_numpy(field).to(device)[None] for name, field in fields.items()}
    return restoration_batch(Crops(**one), torch.from_numpy(mask).to(device)[None])


def psnr_gain(sample: Sample, restored: NDArray[np.uint8]) -> float:
    """How much nearer to the truth a restored picture is than the blurred one, in the mask, dB."""
    before, after = (
        finite_psnr(psnr(picture, sample.sharp, sample.mask))
        for picture in (sample.blurred, restored)
    )
    return after - before


def _device_of(module: torch.nn.Module) -> torch.device:
    return next(module.parameters()).device
