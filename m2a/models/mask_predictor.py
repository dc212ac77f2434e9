"""The mask predictor: which pixels are visibly motion-blurred (paper: blur-aware mask predictor).

It is the only dense part of the method, so it must stay cheaper than the restoration at 10 %
coverage: 3.6 kFLOP per pixel in `small`, 39.5 in `base`. It is a U-Net that starts at stride 4,
with no global operation, so that a pixel's logit depends on a bounded neighbourhood alone and an
image may be processed in parts. Upsampling is a 1×1 convolution followed by a pixel shuffle: unlike
interpolation it needs no size at run time.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from m2a.models.config import M2AENetConfig


class ConvNormReLU(nn.Sequential):
    """Convolution, batch norm, ReLU. `fold_batch_norm` leaves convolution and ReLU."""

    def __init__(self, c_in: int, c_out: int, *, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(c_out)
        self.act = nn.ReLU()


class ResidualUnit(nn.Module):
    """x + ConvNormReLU(x)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = ConvNormReLU(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Maps f32 [B, C, h, w] to the same shape."""
        out: Tensor = x + self.body(x)
        return out


class MaskPredictor(nn.Module):
    """A dense U-Net over strides 4, 8, 16 and 32 that returns logits at full resolution."""

    def __init__(self, config: M2AENetConfig) -> None:
        super().__init__()
        widths, blocks = config.mask_widths, config.mask_blocks
        self.stem = nn.Sequential(
            ConvNormReLU(3, config.mask_stem_width, kernel=5, stride=2),
            ConvNormReLU(config.mask_stem_width, widths[0], stride=2),
        )
        self.encoder = nn.ModuleList(
            nn.Sequential(*(ResidualUnit(width) for _ in range(count)))
            for width, count in zip(widths, blocks, strict=True)
        )
        self.down = nn.ModuleList(
            ConvNormReLU(fine, coarse, stride=2) for fine, coarse in itertools.pairwise(widths)
        )
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(coarse, 4 * fine, 1), nn.PixelShuffle(2))
            for fine, coarse in itertools.pairwise(widths)
        )
        self.decoder = nn.ModuleList(ConvNormReLU(width, width) for width in widths[:-1])
        self.head = nn.Sequential(nn.Conv2d(widths[0], 16, 1), nn.PixelShuffle(4))

    def forward(self, image: Tensor) -> Tensor:
        """Returns blur logits.

        Args:
            image: f32 [B, 3, H, W], RGB in [0, 1]; H and W multiples of 32.

        Returns:
            f32 [B, 1, H, W], logits: their sigmoid is the probability of visible motion blur.
        """
        # Zero mean, so that the zero padding of the convolutions is a mid-grey and not an edge.
        x = self.stem(image - 0.5)
        skips = []
        for level, encoder in enumerate(self.encoder):
            x = encoder(x if level == 0 else self.down[level - 1](x))
            skips.append(x)
        for level in reversed(range(len(self.decoder))):
            x = self.decoder[level](skips[level] + self.up[level](x))
        out: Tensor = self.head(x)
        return out


def predict_logits(predictor: MaskPredictor, image: Tensor, *, mirrored: bool) -> Tensor:
    """Predicts a mask, as the network's configuration says.

    Args:
        predictor: the predictor.
        image: f32 [B, 3, H, W], RGB in [0, 1]; H and W multiples of 32.
        mirrored: take the mean of the logits of the image and of its mirror image. What the
            predictor makes of a place differs a little from one to the other, and the errors are
            not the same.

    Returns:
        f32 [B, 1, H, W], logits.
    """
    if not mirrored:
        logits: Tensor = predictor(image)
        return logits
    count = image.shape[0]
    both: Tensor = predictor(torch.cat([image, image.flip(3)]))
    return (both[:count] + both[count:].flip(3)) * 0.5


@torch.no_grad()
def fold_batch_norm(predictor: MaskPredictor) -> None:
    """Folds every batch norm into the convolution before it, in place, for inference.

    With the running mean μ, variance σ², scale γ and shift β of the norm,
    γ (W x − μ) / √(σ² + ε) + β = (s W) x + (β − s μ), s = γ / √(σ² + ε).
    """
    for unit in [m for m in predictor.modules() if isinstance(m, ConvNormReLU)]:
        norm = unit.norm
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        if norm.running_mean is None or norm.running_var is None:
            raise ValueError("a batch norm without running statistics cannot be folded")
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        unit.conv.weight.mul_(scale[:, None, None, None])
        unit.conv.bias = nn.Parameter(norm.bias - scale * norm.running_mean)
        unit.norm = nn.Identity()
