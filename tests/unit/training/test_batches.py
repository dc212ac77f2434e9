"""Batches: one tall canvas computes what crop by crop would."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from masks import draw_mask
from random_network import PRESETS_AND_TINY, dense_rows, random_network

from m2a.models.gathered import GatheredRestorer
from m2a.models.reparameterize import reparameterize
from m2a.training.batches import (
    image_batch,
    jittered_batch,
    mask_targets,
    restoration_batch,
    restoration_masks,
)
from m2a.training.records import MASKED, SHAKEN, VISIBLE, Crops

SIDE = 64


def draw_crops(count):
    rng = np.random.default_rng(0)
    blurred, sharp = rng.integers(0, 256, (2, count, SIDE, SIDE, 3)).astype(np.uint8)
    return Crops(
        blurred=torch.from_numpy(blurred),
        sharp=torch.from_numpy(sharp),
        label=torch.zeros((count, SIDE, SIDE), dtype=torch.uint8),
        motion=torch.full((count, SIDE // 4, SIDE // 4, 4), torch.nan),
    )


def draw_masks(*kinds):
    masks = [
        np.zeros((SIDE, SIDE), bool) if kind == "empty" else draw_mask(kind, SIDE, SIDE, seed=n)
        for n, kind in enumerate(kinds)
    ]
    return torch.from_numpy(np.stack(masks))


@pytest.mark.parametrize("preset", ["tiny", "small"])
@torch.no_grad()
def test_stacked_crops_give_the_residuals_of_every_crop_alone(preset):
    """Trajectories reach up to 48 pixels; full masks up to the border meet the gap."""
    network = random_network(PRESETS_AND_TINY[preset], seed=5)
    crops, masks = draw_crops(4), draw_masks("full", "random", "full", "border")
    batch = restoration_batch(crops, masks)
    gathered = GatheredRestorer(network.config)
    gathered.load_state_dict(reparameterize(network.restorer))
    stacked = gathered(batch.tables)
    alone = [
        dense_rows(network, blurred.numpy().astype(np.float32) / 255, mask.numpy())
        for blurred, mask in zip(crops.blurred, masks, strict=True)
    ]
    # Float32 sums in another order, as between the two forms.
    assert (stacked.residual - torch.cat([rows.residual for rows in alone])).abs().max() <= 1e-5
    assert (stacked.motion - torch.cat([rows.motion for rows in alone])).abs().max() <= 48e-5
    assert stacked.motion.abs().max() > 16


def test_the_pixels_are_the_active_ones_in_the_order_of_the_rows():
    crops, masks = draw_crops(3), draw_masks("random", "single", "corners")
    batch = restoration_batch(crops, masks)
    assert torch.equal(batch.blurred, crops.blurred[masks].float() / 255)
    assert torch.equal(batch.sharp, crops.sharp[masks].float() / 255)
    # The centre of each patch is the pixel itself.
    assert torch.equal(batch.tables.patches.reshape(-1, 5, 5, 3)[:, 2, 2], batch.blurred)


def test_crops_are_numbered_without_gaps():
    masks = draw_masks("empty", "single", "empty", "corners")
    assert restoration_batch(draw_crops(4), masks).crop.tolist() == [0, 1, 1, 1, 1]


def test_sites_take_the_trajectory_of_their_cell_where_the_blur_shows():
    rng = np.random.default_rng(3)
    crops, masks = draw_crops(3), draw_masks("random", "empty", "corners")
    crops.motion.copy_(torch.from_numpy(rng.standard_normal(crops.motion.shape)))
    shown = torch.from_numpy(rng.random(crops.label.shape) < 0.05)
    crops.label.copy_(torch.where(shown, VISIBLE, MASKED))
    found = restoration_batch(crops, masks).motion.numpy()
    row = 0
    for crop, mask in enumerate(masks):
        for y in range(0, SIDE, 4):
            for x in range(0, SIDE, 4):
                if not mask[y : y + 4, x : x + 4].any():
                    continue
                shows = (crops.label[crop, y : y + 4, x : x + 4] & VISIBLE).any()
                expected = crops.motion[crop, y // 4, x // 4] if shows else np.full(4, np.nan)
                assert np.array_equal(found[row], expected, equal_nan=True)
                row += 1
    assert row == len(found)
    assert 0 < np.isnan(found).mean() < 1


def test_masks_without_an_active_pixel_make_no_batch():
    assert restoration_batch(draw_crops(2), draw_masks("empty", "empty")) is None


@pytest.mark.parametrize(
    ("bits", "target", "weight"),
    [
        (0, 0, 1),
        (MASKED, 0, 0),  # moves, but nothing shows it: either answer is right
        (MASKED | VISIBLE, 1, 1),
        (VISIBLE, 1, 1),
        (SHAKEN, 0, 1),
        (MASKED | SHAKEN, 0, 1),  # flat in a shaken picture: must not teach "smooth is blurred"
        (MASKED | VISIBLE | SHAKEN, 1, 1),
        (VISIBLE | SHAKEN, 1, 1),
    ],
)
def test_targets_of_the_mask_loss(bits, target, weight):
    found = mask_targets(torch.full((2, 3, 3), bits, dtype=torch.uint8))
    for tensor, value in zip(found, (target, weight), strict=True):
        assert tensor.dtype == torch.float32
        assert tensor.shape == (2, 1, 3, 3)
        assert (tensor == value).all()


def test_a_shaken_sample_weighs_as_asked_and_a_flat_part_elsewhere_still_nothing():
    label = np.zeros((3, 2, 2), np.uint8)
    label[0] = [[0, MASKED], [MASKED | VISIBLE, MASKED]]
    label[1] = SHAKEN | label[0]
    _, weight = mask_targets(torch.from_numpy(label), shaken_weight=0.25)
    assert weight[:, 0].tolist() == [
        [[1, 0], [1, 0]],
        [[0.25, 0.25], [0.25, 0.25]],
        [[1, 1], [1, 1]],
    ]


class TestJitteredBatch:
    def draw(self, strength, seed=0):
        images = np.random.default_rng(1).integers(0, 256, (3, 8, 9, 3)).astype(np.uint8)
        rng = np.random.default_rng(seed)
        return images, jittered_batch(rng, torch.from_numpy(images), strength=strength)

    def test_without_strength_only_channels_change_places(self):
        images, jittered = self.draw(0.0)
        for image, planes in zip(images, jittered.numpy(), strict=True):
            plain = [image[..., channel] / np.float32(255) for channel in range(3)]
            matches = [[np.abs(p - q).max() < 1e-6 for q in plain] for p in planes]
            assert np.array_equal(np.sum(matches, axis=0), [1, 1, 1])
            assert np.array_equal(np.sum(matches, axis=1), [1, 1, 1])

    def test_every_channel_is_a_gain_and_a_power_of_one_channel(self):
        images, jittered = self.draw(0.3)
        for image, planes in zip(images, jittered, strict=True):
            order = [np.argsort(image[..., c], axis=None, kind="stable") for c in range(3)]
            for plane in planes.numpy():
                sorted_by = [np.diff(plane.reshape(-1)[o]).min() >= 0 for o in order]
                assert sum(sorted_by) == 1

    def test_crops_get_colours_of_their_own_and_a_seed_repeats_them(self):
        images = torch.full((2, 4, 4, 3), 128, dtype=torch.uint8)
        first, again = (
            jittered_batch(np.random.default_rng(3), images, strength=0.3) for _ in range(2)
        )
        assert torch.equal(first, again)
        assert not torch.allclose(first[0], first[1], atol=1e-2)
        assert first.min() >= 0
        assert first.max() <= 1


def test_images_become_planes_in_0_to_1():
    images = torch.zeros((2, 3, 5, 3), dtype=torch.uint8)
    images[1, 2, 4, 0] = 255
    planes = image_batch(images)
    assert planes.shape == (2, 3, 3, 5)
    assert planes[1, 0, 2, 4] == 1
    assert planes.sum() == 1


class TestRestorationMasks:
    """Which pixels are restored: true masks, widened, where blur shows, within a budget."""

    def masks(self, pool, *, count=8, budget=10**6, seed=0):
        rng = np.random.default_rng(seed)
        crops = pool.draw(rng, count)
        return restoration_masks(rng, crops, budget=budget), crops

    def test_true_masks_are_covered(self, pool):
        chosen, crops = self.masks(pool)
        assert (chosen | (crops.label & MASKED == 0)).all()
        assert not chosen[:, 0, 0].any()

    def test_a_crop_whose_blur_does_not_show_is_left_out(self, pool):
        rng = np.random.default_rng(0)
        crops = pool.draw(rng, 4)
        unseen = replace(crops, label=crops.label & MASKED)
        assert not restoration_masks(rng, unseen, budget=10**6).any()

    def test_predicted_pixels_are_restored_too(self, pool):
        rng = np.random.default_rng(0)
        crops = pool.draw(rng, 4)
        predicted = torch.zeros(crops.label.shape, dtype=torch.bool)
        predicted[:, 0, 0] = True
        chosen = restoration_masks(rng, crops, budget=10**6, predicted=predicted)
        assert chosen[:, 0, 0].all()
        assert (chosen | (crops.label & MASKED == 0)).all()

    def test_predicted_pixels_of_a_sharp_crop_are_restored_if_asked_for(self, pool):
        rng = np.random.default_rng(0)
        sharp = pool.draw(rng, 2)
        sharp = replace(sharp, label=torch.zeros_like(sharp.label))
        predicted = torch.zeros(sharp.label.shape, dtype=torch.bool)
        predicted[0, 3:5, 3:5] = True
        chosen = restoration_masks(rng, sharp, budget=10**6, predicted=predicted, sharp_crops=True)
        assert torch.equal(chosen, predicted)
        assert not restoration_masks(rng, sharp, budget=10**6, predicted=predicted).any()

    def test_the_budget_bounds_the_active_pixels(self, pool):
        chosen, _ = self.masks(pool, budget=800)
        assert 0 < chosen.sum() <= 800 + 256  # the last crop may exceed it, by one window
        assert not chosen[-1].any()
