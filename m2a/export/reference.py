"""The reference that travels in a bundle: an image, and what the torch network makes of it."""

from __future__ import annotations

import io

import numpy as np
import torch
from numpy.typing import NDArray

from m2a.export.parity import check_not_constant, reference_mask
from m2a.models.network import M2AENet
from m2a.runtime.bundle import Reference

HEIGHT, WIDTH = 150, 210
"""No multiples of 32, so that padding is verified too."""


def reference_image(*, seed: int = 7) -> NDArray[np.uint8]:
    """A synthetic photograph: waves, hard-edged discs, fine noise, and one disc blurred by motion.

    Returns:
        uint8 [150, 210, 3].
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    image = np.stack(
        [0.5 + 0.3 * np.sin(x / (7 + c) + c) * np.cos(y / (11 - c)) for c in range(3)], axis=2
    )
    for _ in range(12):
        centre_y, centre_x = rng.uniform(0, HEIGHT), rng.uniform(0, WIDTH)
        disc = np.hypot(y - centre_y, x - centre_x) < rng.uniform(5, 25)
        image[disc] = rng.random(3)
    colour = rng.random(3)
    exposure = np.linspace(-12, 12, 49)
    centres = 0.45 * WIDTH + exposure
    alpha = np.mean([np.hypot(y - 0.4 * HEIGHT, x - cx) < 24 for cx in centres], axis=0)[..., None]
    image = image * (1 - alpha) + colour * alpha
    image += rng.normal(0, 2 / 255, image.shape)
    levels: NDArray[np.uint8] = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return levels


def compute_reference(network: M2AENet) -> Reference:
    """Runs the masked dense network.

    Raises:
        ParityError: its residual is constant.
    """
    image = reference_image()
    mask = reference_mask(HEIGHT, WIDTH)
    planes = torch.from_numpy(image.astype(np.float32) / np.float32(255)).permute(2, 0, 1)[None]
    with torch.no_grad():
        probability = network.predict_mask(planes).sigmoid()[0, 0].numpy()
        residual, motion = network.restore(planes, torch.from_numpy(mask)[None, None].float())
    reference = Reference(
        image=image,
        probability=probability,
        mask=mask,
        residual=residual[0].permute(1, 2, 0).contiguous().numpy(),
        motion=motion[0].permute(1, 2, 0).contiguous().numpy(),
    )
    check_not_constant(reference.residual[mask])
    return reference


def serialise_reference(reference: Reference) -> bytes:
    """Returns the content of `reference.npz`."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **vars(reference))
    return stream.getvalue()
