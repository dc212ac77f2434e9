"""Losses on cases whose answer is known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from m2a.training.losses import (
    CHARBONNIER,
    ERROR_FLOOR,
    charbonnier_loss,
    frequency_loss,
    mask_loss,
    reconstruction_loss,
    trajectory_loss,
)

EXACT = 1e-6
"""Float32 rounding of a handful of operations."""


def crops(*numbers):
    return torch.tensor(numbers)


def test_a_perfect_restoration_is_at_the_floor():
    sharp = torch.rand((4, 3), generator=torch.Generator().manual_seed(0))
    loss = reconstruction_loss(sharp, sharp, crops(0, 0, 1, 1))
    assert loss.item() == pytest.approx(math.log10(1e-4), abs=EXACT)


def test_a_constant_error_of_a_tenth_is_a_mean_square_of_a_hundredth():
    sharp = torch.full((5, 3), 0.5)
    loss = reconstruction_loss(sharp + 0.1, sharp, crops(0, 0, 0, 0, 0))
    assert loss.item() == pytest.approx(math.log10(0.01 + ERROR_FLOOR), abs=1e-5)


def test_every_crop_weighs_the_same_whatever_its_size():
    sharp = torch.zeros((4, 3))
    restored = torch.tensor([[1.0] * 3, [0.1] * 3, [0.1] * 3, [0.1] * 3])
    loss = reconstruction_loss(restored, sharp, crops(0, 1, 1, 1))
    by_hand = (math.log10(1 + ERROR_FLOOR) + math.log10(0.01 + ERROR_FLOOR)) / 2
    assert loss.item() == pytest.approx(by_hand, abs=1e-5)


@pytest.mark.parametrize("weights", [(1.0, 0.5, 2.0), (1.0, 0.0, 1.0)], ids=str)
def test_a_pixel_counts_with_its_weight(weights):
    sharp = torch.zeros((3, 3))
    restored = torch.tensor([[0.1] * 3, [0.5] * 3, [0.2] * 3])
    a, b, _ = weights
    mean = (a * 0.01 + b * 0.25) / (a + b)
    where = (crops(0, 0, 1), torch.tensor(weights))
    squared = reconstruction_loss(restored, sharp, *where)
    by_hand = (math.log10(mean + ERROR_FLOOR) + math.log10(0.04 + ERROR_FLOOR)) / 2
    assert squared.item() == pytest.approx(by_hand, abs=1e-5)
    absolute = charbonnier_loss(restored, sharp, *where)
    by_hand = ((a * 0.1 + b * 0.5) / (a + b) + 0.2) / 2
    assert absolute.item() == pytest.approx(by_hand, abs=1e-4)


def test_a_restored_crop_has_a_finite_gradient():
    restored = torch.zeros((2, 3), requires_grad=True)
    reconstruction_loss(restored, torch.zeros((2, 3)), crops(0, 0)).backward()
    assert torch.equal(restored.grad, torch.zeros((2, 3)))


def test_the_gradient_of_a_crop_does_not_depend_on_its_contrast():
    """Errors ten times as large pull a tenth as hard per unit: the loss is a PSNR."""
    gradients = []
    for error in (0.1, 1.0):
        restored = torch.full((2, 3), error, requires_grad=True)
        reconstruction_loss(restored, torch.zeros((2, 3)), crops(0, 0)).backward()
        gradients.append(restored.grad * error)
    assert torch.allclose(*gradients, rtol=0.012)  # the floor shifts them by 1 %


def test_charbonnier_is_the_absolute_error_but_near_zero():
    sharp = torch.zeros((3, 3))
    restored = torch.tensor([[0.3, -0.1, 0.2], [0.0] * 3, [0.0] * 3])
    loss = charbonnier_loss(restored, sharp, crops(0, 1, 1))
    assert loss.item() == pytest.approx((0.2 + CHARBONNIER) / 2, abs=1e-5)


def sites_of(mask):
    return torch.from_numpy(np.argwhere(mask))


class TestFrequencyLoss:
    def test_a_constant_error_of_a_whole_crop_is_one_frequency(self):
        """All its energy c²·S² lies in one of S² values: their mean modulus is c·S / S²."""
        sites = sites_of(np.ones((1, 16, 16), bool))
        sharp = torch.zeros((256, 3))
        assert frequency_loss(sharp + 0.5, sharp, sites, 16).item() == pytest.approx(
            0.5 / 16, rel=1e-4
        )

    def test_a_single_wrong_pixel_is_all_frequencies_alike(self):
        """Its modulus is e/S everywhere, and one pixel of S² takes away the S."""
        sites = torch.tensor([[0, 3, 5]])
        error = torch.full((1, 3), 0.25)
        assert frequency_loss(error, 0 * error, sites, 32).item() == pytest.approx(0.25)

    @pytest.mark.parametrize("share", [0.02, 0.3, 1.0])
    def test_noise_costs_alike_in_masks_of_all_sizes(self, share):
        rng = np.random.default_rng(0)
        sites = sites_of(rng.random((3, 64, 64)) < share)
        noise = 0.1 * torch.from_numpy(rng.standard_normal((len(sites), 3)).astype(np.float32))
        loss = frequency_loss(noise, torch.zeros_like(noise), sites, 64).item()
        assert loss == pytest.approx(0.1 * math.sqrt(math.pi) / 2, rel=0.05)

    def test_crops_without_a_pixel_do_not_count(self):
        error = torch.full((1, 3), 0.25)
        alone = frequency_loss(error, 0 * error, torch.tensor([[0, 3, 5]]), 32)
        after_two = frequency_loss(error, 0 * error, torch.tensor([[2, 3, 5]]), 32)
        assert torch.equal(alone, after_two)

    def test_a_perfect_restoration_has_a_finite_gradient(self):
        restored = torch.zeros((1, 3), requires_grad=True)
        frequency_loss(restored, torch.zeros((1, 3)), torch.tensor([[0, 1, 1]]), 32).backward()
        assert torch.isfinite(restored.grad).all()


def trajectories(*rows):
    return torch.tensor(rows, dtype=torch.float32)


class TestTrajectoryLoss:
    def test_the_true_trajectory_and_its_reverse_cost_nothing(self):
        true = trajectories((10, -4, 1, 2))
        assert trajectory_loss(true, true).item() < 0.002  # the smoothed lengths of zero
        backwards = trajectories((-10, 4, 1, 2))  # d(-t): t changes its sign, t² does not
        assert trajectory_loss(backwards, true).item() < 0.002
        assert trajectory_loss(-true, true).item() > 0.2

    def test_an_error_counts_relative_to_the_length(self):
        true = trajectories((3, 4, 0, 0), (30, 40, 0, 0))
        off = trajectories((3, 4, 0, 3.5), (30, 40, 0, 3.5))
        by_hand = (3.5 / 7 + 3.5 / 52) / 2
        assert trajectory_loss(off, true).item() == pytest.approx(by_hand, abs=5e-3)

    def test_what_is_not_known_does_not_count(self):
        true = trajectories((3, 4, 0, 0), (math.nan, 0, 0, 0))
        motion = trajectories((4, 5, 0, 0), (9, 9, 9, 9)).requires_grad_()
        trajectory_loss(motion, true).backward()
        assert not motion.grad[1].any()
        assert motion.grad[0].any()

    def test_with_nothing_known_it_is_zero_and_so_is_its_gradient(self):
        motion = trajectories((4, 5, 0, 0)).requires_grad_()
        loss = trajectory_loss(motion, torch.full((1, 4), math.nan))
        loss.backward()
        assert loss.item() == 0
        assert not motion.grad.any()

    def test_standing_still_has_a_finite_gradient(self):
        motion = torch.zeros((1, 4), requires_grad=True)
        trajectory_loss(motion, trajectories((10, -4, 1, 2))).backward()
        assert torch.isfinite(motion.grad).all()
        assert motion.grad.any()


def label(*values):
    return torch.tensor(values, dtype=torch.float32).reshape(1, 1, 1, -1)


ONES = label(1, 1, 1, 1)


def test_undecided_logits_cost_ln_2_and_the_dice_of_one_half():
    loss = mask_loss(label(0, 0, 0, 0), label(1, 1, 0, 0), ONES)
    dice = 1 - (2 * 1.0 + 1) / (2 + 2 + 1)
    assert loss.item() == pytest.approx(math.log(2) + dice, abs=EXACT)


def test_a_certain_and_right_answer_costs_nothing():
    loss = mask_loss(label(99, 99, -99, -99), label(1, 1, 0, 0), ONES)
    assert loss.item() == pytest.approx(0, abs=EXACT)


def test_a_certain_and_wrong_answer_costs_its_logit_and_the_whole_dice():
    loss = mask_loss(label(-50, -50, 50, 50), label(1, 1, 0, 0), ONES)
    assert loss.item() == pytest.approx(50 + 1 - 1 / 5, abs=1e-4)


def test_pixels_without_a_label_do_not_count():
    weight = label(1, 1, 0, 0)
    logits = label(0.3, -0.7, 5, -5).requires_grad_()
    loss = mask_loss(logits, label(1, 0, 0, 1), weight)
    loss.backward()
    alone = mask_loss(label(0.3, -0.7), label(1, 0), label(1, 1))
    assert loss.item() == pytest.approx(alone.item(), abs=EXACT)
    assert not logits.grad[..., 2:].any()


def test_a_batch_without_labels_costs_nothing():
    assert mask_loss(label(3, -3), label(1, 0), label(0, 0)).item() == pytest.approx(0, abs=EXACT)


def test_a_batch_without_blur_still_pays_for_false_alarms():
    quiet, alarm = (mask_loss(label(v, v), label(0, 0), label(1, 1)) for v in (-9.0, 9.0))
    assert quiet < 0.01 < alarm


def test_a_small_object_missed_costs_as_much_as_a_large_one_missed():
    """The crops' own half of the Dice part; over the whole batch the small one hardly counts."""
    target = torch.zeros(2, 1, 1, 100)
    target[0, ..., :99], target[1, ..., :4] = 1, 1
    found = 40 * (target - 0.5)

    def loss_without(crop):
        logits = found.clone()
        logits[crop] = -20
        entropy = 20 * target[crop].sum() / 200
        return (mask_loss(logits, target, torch.ones_like(target)) - entropy).item()

    whole = [1 - (2 * n + 1) / (103 + n + 1) for n in (4, 99)]
    crops = [(1 - 1 / (n + 1)) / 2 for n in (99, 4)]
    for crop in (0, 1):
        assert loss_without(crop) == pytest.approx(0.5 * (whole[crop] + crops[crop]), abs=1e-5)
