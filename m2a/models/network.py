"""M2AENet: mask predictor and restorer, on images of any size."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2a.models.config import MULTIPLE, M2AENetConfig
from m2a.models.mask_predictor import MaskPredictor, predict_logits
from m2a.models.restorer import STEM_RADIUS, Restoration, Restorer


class PaddedImage(NamedTuple):
    """An image padded by reflection for both parts of the network.

    Attributes:
        image: f32 [B, 3, H', W'], H' and W' multiples of 32, the original at the top left.
        surroundings: f32 [B, 3, H' + 4, W' + 4], the same with two more pixels on each side.
    """

    image: Tensor
    surroundings: Tensor


class M2AENet(nn.Module):
    """Motion-aware adaptive pixel pruning (arXiv 2507.07708), as DESIGN section 3 reads it.

    Attributes:
        config: the configuration it was built from.
        mask_predictor: finds the visibly blurred pixels.
        restorer: restores them, in the masked dense form.
    """

    def __init__(self, config: M2AENetConfig) -> None:
        super().__init__()
        self.config = config
        self.mask_predictor = MaskPredictor(config)
        self.restorer = Restorer(config)

    def predict_mask(self, image: Tensor) -> Tensor:
        """Returns the blur logits of an image.

        Args:
            image: f32 [B, 3, H, W], RGB in [0, 1], any H and W.

        Returns:
            f32 [B, 1, H, W].
        """
        logits = self.predict_padded_mask(reflect_pad(image).image)
        return logits[..., : image.shape[2], : image.shape[3]]

    def predict_padded_mask(self, image: Tensor) -> Tensor:
        """Returns the blur logits f32 [B, 1, H, W] of an image whose sides 32 divides."""
        return predict_logits(self.mask_predictor, image, mirrored=self.config.mask_mirrored)

    def restore(self, image: Tensor, mask: Tensor) -> Restoration:
        """Returns the residual and the motion at the active pixels, zero elsewhere.

        Args:
            image: f32 [B, 3, H, W], RGB in [0, 1], any H and W.
            mask: f32 [B, 1, H, W], 1 at active pixels and 0 elsewhere.

        Returns:
            The `Restoration`: residual [B, 3, H, W], motion [B, 4, H'/4, W'/4] where H' and W'
            are H and W padded to multiples of 32.
        """
        height, width = image.shape[2:]
        padded = reflect_pad(image)
        right, bottom = padded.image.shape[3] - width, padded.image.shape[2] - height
        # Padding is never active: constant zeros, not a reflection.
        padded_mask = F.pad(mask, (0, right, 0, bottom))
        residual, motion = self.restorer(padded.surroundings, padded_mask)
        return Restoration(residual=residual[..., :height, :width], motion=motion)


def reflect_pad(image: Tensor) -> PaddedImage:
    """Pads at the right and bottom to multiples of 32 by reflection, and by two pixels all round.

    Both paddings reflect the *original* image, index by index (`reflect_index`), so that a pixel
    near its border sees the same surroundings whatever the size is rounded up to. Torch's own
    reflection refuses a padding wider than the image.

    Args:
        image: f32 [B, 3, H, W].

    Returns:
        The `PaddedImage`.
    """
    rows, columns = (
        reflect_index(size, before=STEM_RADIUS, total=-(-size // MULTIPLE) * MULTIPLE).to(
            image.device
        )
        for size in image.shape[2:]
    )
    surroundings = image.index_select(2, rows).index_select(3, columns)
    inner = slice(STEM_RADIUS, -STEM_RADIUS)
    return PaddedImage(image=surroundings[..., inner, inner], surroundings=surroundings)


def reflect_index(size: int, *, before: int, total: int) -> Tensor:
    """Returns the int64 source indices of positions -before … total + before - 1 by reflection."""
    position = torch.arange(-before, total + before)
    if size == 1:
        return torch.zeros_like(position)
    period = 2 * (size - 1)
    wrapped = position.remainder(period)
    return torch.minimum(wrapped, period - wrapped)
