"""One training step's losses and gradients: mask predictor and restorer, side by side or joined.

Each step trains the mask predictor on a batch of crops and the restorer, in its gathered form,
on the active pixels of as many of them as fit the budget, under their true masks, widened at
random; in the end-to-end stage, and in the blurred crops that `false_alarms` chooses, under the
union of true and predicted masks. Not under predicted ones from the beginning: the gain on 30
held-out crops fell from 0.48 dB at about step 1,950 to 0.28 dB at step 2,500, after three crops in
ten had taken them from step 2,250 on. That they are mostly sharp pixels at first, which teach to do
nothing, is the likely cause, not an isolated one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from m2a.models.gathered import GatheredRestorer, straight_through_gates
from m2a.models.network import M2AENet
from m2a.models.reparameterize import reparameterize
from m2a.runtime.manifest import DEFAULT_DILATE
from m2a.training.batches import (
    RestorationBatch,
    image_batch,
    jittered_batch,
    mask_targets,
    restoration_batch,
    restoration_masks,
)
from m2a.training.config import TrainingConfig
from m2a.training.losses import (
    charbonnier_loss,
    frequency_loss,
    mask_loss,
    reconstruction_loss,
    trajectory_loss,
)
from m2a.training.reblur import linear_light, pixel_motion, reblur_loss
from m2a.training.records import MASKED, Crops
from m2a.training.restorer_convolution import restorer_convolution
from m2a.training.tables import dilate

FALSE_ALARM_THRESHOLDS = (0.02, 0.5)
"""Probabilities between which the threshold of false alarms is drawn."""

MEASURED = ("mask loss", "overlap", "union", "reconstruction loss", "error before", "error after")
"""What a step measures, in this order."""


class Gradients:
    """Adds the gradients of a batch to the weights of a network.

    Args:
        network: on the device of the training.
        config: the recipe.

    Raises:
        TrainingError: the recipe asks for a precision that the device does not have.
    """

    def __init__(self, network: M2AENet, config: TrainingConfig) -> None:
        self._network, self._config = network, config
        if config.false_alarms:
            # The mask predictor is not trained: its norms' statistics stay as they are.
            network.mask_predictor.eval()
        self._device = next(network.parameters()).device
        convolve = restorer_convolution(config, self._device)
        self._gathered = GatheredRestorer(config.network, convolve=convolve).to(self._device)
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mask-step")

    def backward(self, crops: Crops, rng: np.random.Generator, *, step: int) -> list[Tensor]:
        """Adds the gradients of one batch.

        Args:
            crops: the samples.
            rng: chooses which pixels are restored.
            step: its number, which seeds the colours that the mask predictor sees.

        Returns:
            What `MEASURED` names, scalars on the device.
        """
        if self._config.straight_through:
            return self._joint_backward(crops, rng, step)
        # Side by side, each on half the cores: the operations are too small to share one each.
        beside = self._executor.submit(self._mask_backward, crops, step)
        restoration = self._restoration_backward(crops, rng)
        return [*beside.result(), *restoration]

    def _mask_backward(self, crops: Crops, step: int) -> list[Tensor]:
        """Adds the mask predictor's gradient; returns loss, intersection and union."""
        if "mask_predictor" not in self._config.parts:
            return self._nothing()
        loss, _, overlap, union = self._mask_forward(crops, step)
        loss.backward()  # type: ignore[no-untyped-call]
        return [loss.detach(), overlap, union]

    def _nothing(self) -> list[Tensor]:
        """What is measured of a part that is not trained, or had nothing to train on."""
        return [torch.zeros((), device=self._device)] * 3

    def _restoration_backward(self, crops: Crops, rng: np.random.Generator) -> list[Tensor]:
        """Adds the restorer's gradient; returns loss and mean squared error before and after."""
        if "restorer" not in self._config.parts:
            return self._nothing()
        masks = restoration_masks(
            rng,
            crops,
            budget=self._config.active_pixels,
            predicted=self._false_alarms(rng, crops),
        )
        batch = restoration_batch(crops, masks)
        if batch is None:
            return self._nothing()
        loss, *measured = self._restoration_forward(crops, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        return measured

    @torch.no_grad()
    def _false_alarms(self, rng: np.random.Generator, crops: Crops) -> Tensor | None:
        """What the mask predictor takes for blurred in some of the crops, bool [B, S, S]."""
        config = self._config
        if not config.false_alarms:
            return None
        chosen = np.flatnonzero(rng.random(len(crops.blurred)) < config.false_alarms)
        thresholds = rng.uniform(*FALSE_ALARM_THRESHOLDS, len(chosen))
        rows = torch.from_numpy(chosen).to(self._device)
        images = image_batch(crops.blurred[rows]).to(memory_format=torch.channels_last)
        logits = self._network.predict_padded_mask(images)
        threshold = torch.from_numpy(thresholds).to(logits)[:, None, None]
        predicted = torch.zeros_like(crops.label, dtype=torch.bool)
        predicted[rows] = dilate(logits[:, 0].sigmoid() >= threshold, DEFAULT_DILATE)
        return predicted

    def _joint_backward(self, crops: Crops, rng: np.random.Generator, step: int) -> list[Tensor]:
        """Adds the gradients of both parts, the restorer's losses through the predicted mask."""
        labelled, logits, overlap, union = self._mask_forward(crops, step)
        probability = logits[:, 0].sigmoid()
        predicted = dilate(probability >= 0.5, DEFAULT_DILATE)
        masks = restoration_masks(
            rng,
            crops,
            budget=self._config.active_pixels,
            predicted=predicted,
            sharp_crops=True,
        )
        batch = restoration_batch(crops, masks)
        if batch is None:
            labelled.backward()  # type: ignore[no-untyped-call]
            return [labelled.detach(), overlap, union, *self._nothing()]
        active = probability[batch.sites.unbind(dim=1)]
        loss, *measured = self._restoration_forward(crops, batch, active)
        (labelled + loss).backward()  # type: ignore[no-untyped-call]
        return [labelled.detach(), overlap, union, *measured]

    def _mask_forward(self, crops: Crops, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns loss, logits [B, 1, S, S], intersection and union."""
        config = self._config
        target, weight = mask_targets(crops.label, shaken_weight=config.shaken_weight)
        images = self._mask_images(crops.blurred, step).to(memory_format=torch.channels_last)
        half = config.mask_precision == "bfloat16"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=half):
            logits = self._network.mask_predictor(images)
        logits = logits.float()
        predicted = logits.detach() > 0
        overlap = (predicted * target * weight).sum()
        union = ((predicted + target).clamp_max(1) * weight).sum()
        return mask_loss(logits, target, weight), logits, overlap, union

    def _mask_images(self, blurred: Tensor, step: int) -> Tensor:
        strength = self._config.mask_jitter
        if not strength:
            return image_batch(blurred)
        # A generator of its own: the restorer draws from the other one at the same time.
        rng = np.random.default_rng((self._config.seed, 2, step))
        return jittered_batch(rng, blurred, strength=strength)

    def _restoration_forward(
        self, crops: Crops, batch: RestorationBatch, probability: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns the loss, its reconstruction part, and mean squared errors before and after."""
        tables, blurred, sharp = batch.tables, batch.blurred, batch.sharp
        gates = None if probability is None else straight_through_gates(probability, tables)
        weights = reparameterize(self._network.restorer)
        residual, motion = functional_call(self._gathered, weights, (tables, gates))
        restored = blurred + residual
        weight = self._pixel_weights(crops, batch)
        reconstruction = reconstruction_loss(restored, sharp, batch.crop, weight)
        loss = reconstruction
        if self._config.reconstruction == "charbonnier":
            loss = charbonnier_loss(restored, sharp, batch.crop, weight)
        if self._config.frequency_weight:
            spectrum = frequency_loss(restored, sharp, batch.sites, self._config.crop)
            loss = loss + self._config.frequency_weight * spectrum
        if self._config.trajectory_weight:
            trajectories = trajectory_loss(motion, batch.motion)
            loss = loss + self._config.trajectory_weight * trajectories
        if self._config.reblur_weight:
            moved = pixel_motion(motion, tables)
            reblurred = reblur_loss(blurred, linear_light(crops.sharp), batch.sites, moved)
            loss = loss + self._config.reblur_weight * reblurred
        with torch.no_grad():
            before = (blurred - sharp).square().mean()
            after = (restored.clamp(0, 1) - sharp).square().mean()
        return loss, reconstruction.detach(), before, after

    def _pixel_weights(self, crops: Crops, batch: RestorationBatch) -> Tensor | None:
        """f32 [N_0], 1 where something moves; None if all pixels count alike."""
        if not self._config.false_alarms:
            return None
        moves = crops.label[batch.sites.unbind(dim=1)] & MASKED > 0
        return torch.where(moves, 1.0, self._config.false_alarm_weight)
