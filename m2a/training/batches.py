"""From crops to the tensors of a training step, on the device where the crops lie.

The restorer trains in its gathered form, which costs a third of masked dense for the same
gradients. The masks of several crops are stacked into one tall canvas with an inactive gap
between them, so that one set of tables serves the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from m2a.models.gathered import Tables
from m2a.models.network import reflect_pad
from m2a.runtime.sites import CELL, PATCH
from m2a.training.records import MASKED, SHAKEN, VISIBLE, Crops
from m2a.training.tables import build_tables, dilate, max_pool, square_places

MAX_DILATION = 6
"""Pixels by which a true mask is widened at most."""

GAP = 64
"""Inactive rows between crops: more than a trajectory's reach of 48 pixels and its corner."""


@dataclass(frozen=True, kw_only=True)
class RestorationBatch:
    """Active pixels of several crops.

    Attributes:
        tables: the inputs of the gathered restorer.
        blurred: f32 [N_0, 3] in [0, 1], the active pixels.
        sharp: f32 [N_0, 3] in [0, 1], the truth there.
        crop: int64 [N_0], the crop that each belongs to, numbered without gaps.
        sites: int64 [N_0, 3], (crop, y, x) of each, the crops numbered as they were given.
        motion: f32 [N_2, 4], the true trajectory of each level-2 site; NaN where nothing moves, or
            where its blur is not visible in any pixel, so that nothing tells which way it goes.
    """

    tables: Tables
    blurred: Tensor
    sharp: Tensor
    crop: Tensor
    sites: Tensor
    motion: Tensor


def mask_targets(label: Tensor, *, shaken_weight: float = 1.0) -> tuple[Tensor, Tensor]:
    """Returns target and weight of the mask loss, each f32 [B, 1, S, S], of uint8 [B, S, S].

    Positive is what is *visibly* blurred. A flat part of a moving object may be called either
    way: it moves, but nothing shows it. A flat part of a shaken picture is negative: called
    positive it would teach that smooth means blurred.
    """
    masked, visible, shaken = (label & bit > 0 for bit in (MASKED, VISIBLE, SHAKEN))
    either = masked & ~visible & ~shaken
    target, weight = (mask[:, None].float() for mask in (visible, ~either))
    in_shaken = shaken.flatten(1).any(dim=1)[:, None, None, None]
    return target, torch.where(in_shaken, weight * shaken_weight, weight)


def image_batch(images: Tensor) -> Tensor:
    """Converts uint8 [B, H, W, 3] to f32 [B, 3, H, W] in [0, 1]."""
    return images.permute(0, 3, 1, 2).contiguous().float() / 255


def jittered_batch(rng: np.random.Generator, images: Tensor, *, strength: float) -> Tensor:
    """Converts a batch as `image_batch` does, each crop in colours and contrast of its own.

    Blur is in the structure and not in the colours. Without this the mask predictor learns which
    photograph a texture comes from.

    Args:
        rng: source of all randomness.
        images: uint8 [B, H, W, 3].
        strength: s ≥ 0. A channel v becomes g·v^γ, with ln g and ln γ uniform in [-s, s], γ common
            to the channels, which are permuted; the result is clipped.

    Returns:
        f32 [B, 3, H, W] in [0, 1].
    """
    count = len(images)
    gamma = np.exp(rng.uniform(-strength, strength, (count, 1, 1)))
    gain = np.exp(rng.uniform(-strength, strength, (count, 3, 1)))
    curves = np.clip(gain * np.linspace(0, 1, 256) ** gamma, 0, 1).astype(np.float32)
    sources = np.stack([rng.permutation(3) for _ in range(count)])
    levels = _per_crop(sources, images)[:, None, None].expand_as(images)
    shuffled = images.gather(3, levels).permute(0, 3, 1, 2).to(torch.int64)
    table = _per_crop(curves, images)
    return table.gather(2, shuffled.flatten(2)).reshape(shuffled.shape)


def _per_crop(values: np.ndarray, images: Tensor) -> Tensor:
    return torch.from_numpy(values).to(images.device)


def restoration_masks(
    rng: np.random.Generator,
    crops: Crops,
    *,
    budget: int,
    predicted: Tensor | None = None,
    sharp_crops: bool = False,
) -> Tensor:
    """Chooses the pixels to restore: the true mask of each crop, widened at random.

    Args:
        rng: chooses how much, and where a crop that is too large is cut.
        crops: B samples.
        budget: pixels, about; a crop that takes more than a quarter of it is restored in a random
            window of half its side only.
        predicted: bool [B, S, S], pixels to restore as well.
        sharp_crops: whether crops without visible blur are restored too, where anything is masked
            or predicted.

    Returns:
        bool [B, S, S]; crops without visible blur, unless they are asked for, and those beyond the
        budget are empty.
    """
    masks = crops.label & MASKED > 0
    radii = rng.integers(MAX_DILATION + 1, size=len(masks))
    for radius in sorted(set(radii.tolist())):
        chosen = torch.from_numpy(np.flatnonzero(radii == radius)).to(masks.device)
        masks[chosen] = dilate(masks[chosen], radius)
    if predicted is not None:
        masks |= predicted
    for number, pixels in enumerate(_count(masks)):
        if pixels > budget // 4:
            top, left, side = _window(rng, masks.shape[1])
            cut = torch.zeros_like(masks[number])
            cut[top : top + side, left : left + side] = True
            masks[number] &= cut
    if not sharp_crops:
        shows = (masks & (crops.label & VISIBLE > 0)).flatten(1).any(dim=1)
        masks &= shows[:, None, None]
    sizes = np.array(_count(masks))
    within = np.cumsum(sizes) - sizes < budget
    masks &= torch.from_numpy(within).to(masks.device)[:, None, None]
    return masks


def _count(masks: Tensor) -> list[int]:
    counts: list[int] = masks.flatten(1).sum(dim=1).tolist()
    return counts


def _window(rng: np.random.Generator, side: int) -> tuple[int, int, int]:
    """(top, left, side) of a window of half the side."""
    top, left = rng.integers(side // 2 + 1, size=2)
    return int(top), int(left), side // 2


def restoration_batch(crops: Crops, masks: Tensor) -> RestorationBatch | None:
    """Packs the active pixels of several crops.

    Args:
        crops: B samples.
        masks: bool [B, S, S], the pixels to restore.

    Returns:
        The batch, or None where no pixel is active.
    """
    sites = masks.nonzero()
    if not len(sites):
        return None
    count, height, width = masks.shape
    canvas = masks.new_zeros((count, height + GAP, width))
    canvas[:, :height] = masks
    pixels = masks.flatten(1).sum(dim=1)
    numbers = torch.cumsum(pixels > 0, dim=0) - 1
    crop, y, x = sites.unbind(dim=1)
    return RestorationBatch(
        tables=build_tables(canvas.reshape(-1, width), _patches(crops.blurred, sites)),
        blurred=crops.blurred[crop, y, x].float() / 255,
        sharp=crops.sharp[crop, y, x].float() / 255,
        crop=numbers[crop],
        sites=sites,
        motion=_site_motion(crops, masks),
    )


def _patches(blurred: Tensor, sites: Tensor) -> Tensor:
    """The 5×5 RGB surroundings of each site, f32 [N, 75] in [0, 1], (ky, kx, c)."""
    surroundings = reflect_pad(blurred.permute(0, 3, 1, 2)).surroundings.permute(0, 2, 3, 1)
    _, height, width, channels = surroundings.shape
    crop, y, x = sites.unbind(dim=1)
    places = square_places((crop * height + y) * width + x, side=PATCH, stride=width)
    rows = surroundings.reshape(-1, channels).index_select(0, places.reshape(-1))
    return rows.reshape(len(sites), -1).float() / 255


def _site_motion(crops: Crops, masks: Tensor) -> Tensor:
    """Picks the true trajectories of the level-2 sites, NaN where none can be seen."""
    visible, active = crops.label & VISIBLE > 0, masks
    for _ in range(CELL.bit_length() - 1):
        visible, active = max_pool(visible), max_pool(active)
    unseen = torch.full_like(crops.motion, torch.nan)
    return torch.where(visible[..., None], crops.motion, unseen)[active]
