"""From crops to the tensors of a training step.

The restorer trains in its gathered form, which costs a third of masked dense for the same
gradients. The masks of several crops are stacked into one tall canvas with an inactive gap
between them, so that one set of tables serves the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m2a.models.config import LEVELS
from m2a.models.gathered import Tables
from m2a.runtime.graph_inputs import extract_patches
from m2a.runtime.sites import CELL, Sites, build_sites, dilate, pad_image
from m2a.training.pool import MASKED, SHAKEN, VISIBLE, Crops

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


def mask_targets(label: NDArray[np.uint8], *, shaken_weight: float = 1.0) -> tuple[Tensor, Tensor]:
    """Returns target and weight of the mask loss, each f32 [B, 1, S, S].

    Positive is what is *visibly* blurred. A flat part of a moving object may be called either
    way: it moves, but nothing shows it. A flat part of a shaken picture is negative: called
    positive it would teach that smooth means blurred.
    """
    masked, visible, shaken = (label & bit > 0 for bit in (MASKED, VISIBLE, SHAKEN))
    either = masked & ~visible & ~shaken
    target, weight = (torch.from_numpy(m[:, None]).float() for m in (visible, ~either))
    in_shaken = torch.from_numpy(shaken.any(axis=(1, 2)))[:, None, None, None]
    return target, torch.where(in_shaken, weight * shaken_weight, weight)


def image_batch(images: NDArray[np.uint8]) -> Tensor:
    """Converts uint8 [B, H, W, 3] to f32 [B, 3, H, W] in [0, 1]."""
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return torch.from_numpy(planes).float() / 255


def jittered_batch(
    rng: np.random.Generator, images: NDArray[np.uint8], *, strength: float
) -> Tensor:
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
    planes = np.empty((count, 3, *images.shape[1:3]), np.float32)
    for number, image in enumerate(images):
        for channel, source in enumerate(rng.permutation(3)):
            planes[number, channel] = curves[number, channel][image[:, :, source]]
    return torch.from_numpy(planes)


def restoration_masks(
    rng: np.random.Generator,
    crops: Crops,
    *,
    budget: int,
    predicted: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Chooses the pixels to restore: the true mask of each crop, widened at random.

    Args:
        rng: chooses how much, and where a crop that is too large is cut.
        crops: B samples.
        budget: pixels, about; a crop that takes more than a quarter of it is restored in a random
            window of half its side only.
        predicted: bool [B, S, S], pixels to restore as well.

    Returns:
        bool [B, S, S]; crops without visible blur and without predicted pixels, and those beyond
        the budget, are empty.
    """
    masks = np.zeros(crops.label.shape, bool)
    left = budget
    for number, label in enumerate(crops.label):
        if left <= 0:
            break
        mask = dilate(label & MASKED > 0, int(rng.integers(MAX_DILATION + 1)))
        if predicted is not None:
            mask |= predicted[number]
        if mask.sum() > budget // 4:
            mask &= _window(rng, mask.shape[0])
        if predicted is None and not (mask & (label & VISIBLE > 0)).any():
            continue
        masks[number] = mask
        left -= int(mask.sum())
    return masks


def _window(rng: np.random.Generator, side: int) -> NDArray[np.bool_]:
    window = np.zeros((side, side), bool)
    top, first = rng.integers(side // 2 + 1, size=2)
    window[top : top + side // 2, first : first + side // 2] = True
    return window


def restoration_batch(crops: Crops, masks: NDArray[np.bool_]) -> RestorationBatch | None:
    """Packs the active pixels of several crops.

    Args:
        crops: B samples.
        masks: bool [B, S, S], the pixels to restore.

    Returns:
        The batch, or None where no pixel is active.
    """
    if not masks.any():
        return None
    count, height, width = masks.shape
    canvas = np.zeros((count * (height + GAP), width), bool)
    rows = canvas.reshape(count, height + GAP, width)
    rows[:, :height] = masks
    patches = []
    for blurred, mask in zip(crops.blurred, masks, strict=True):
        surroundings = pad_image(blurred.astype(np.float32) / 255)
        patches.append(extract_patches(surroundings, np.flatnonzero(mask)))
    pixels = torch.from_numpy(masks.sum(axis=(1, 2)))
    sites = build_sites(canvas)
    return RestorationBatch(
        tables=tables_of(sites, np.concatenate(patches)),
        blurred=torch.from_numpy(crops.blurred[masks]).float() / 255,
        sharp=torch.from_numpy(crops.sharp[masks]).float() / 255,
        crop=torch.repeat_interleave(pixels[pixels > 0]),
        sites=torch.from_numpy(np.argwhere(masks)),
        motion=torch.from_numpy(_site_motion(crops, sites)),
    )


def _site_motion(crops: Crops, sites: Sites) -> NDArray[np.float32]:
    """Picks the true trajectories of the level-2 sites, NaN where none can be seen."""
    count, rows, columns = crops.motion.shape[:3]
    blocks = (crops.label & VISIBLE).reshape(count, rows, CELL, columns, CELL)
    visible = blocks.max(axis=(2, 4)) > 0
    x, y = sites.tables["site_xy"].T
    crop, row = np.divmod(y, rows + GAP // CELL)
    picked: NDArray[np.float32] = crops.motion[crop, row, x].copy()
    picked[~visible[crop, row, x]] = np.nan
    return picked


def tables_of(sites: Sites, patches: NDArray[np.float32]) -> Tables:
    """Wraps NumPy tables as the tensors that the gathered restorer takes, sharing their memory."""
    tables = {name: torch.from_numpy(table) for name, table in sites.tables.items()}
    return Tables(
        patches=torch.from_numpy(patches),
        neighbours=tuple(tables[f"neighbours_{level}"] for level in range(LEVELS)),
        children=tuple(tables[f"children_{level}"] for level in range(LEVELS - 1)),
        parents=tuple(tables[f"parents_{level}"] for level in range(LEVELS - 1)),
        site_map=tables["site_map"],
        site_xy=tables["site_xy"],
        grid_size=tables["grid_size"],
    )


def tables_to(tables: Tables, device: torch.device) -> Tables:
    """Moves tables to a device."""
    moved = [
        field.to(device) if isinstance(field, Tensor) else tuple(t.to(device) for t in field)
        for field in tables
    ]
    return Tables(*moved)  # type: ignore[arg-type]
