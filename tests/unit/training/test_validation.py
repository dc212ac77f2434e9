"""Validation: what it measures is what the dense network does to the crops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from random_network import TINY, random_network, to_tensor
from skimage import data

from m2a.evaluation.metrics import overlap, psnr
from m2a.models import M2AENet
from m2a.models.reparameterize import gathered_restorer
from m2a.runtime.manifest import DEFAULT_DILATE
from m2a.runtime.sites import dilate
from m2a.training.samples import SynthesisConfig
from m2a.training.validation import Validation, restore

CONFIG = SynthesisConfig(size=64, blur_length=(4.0, 12.0))


@pytest.fixture(scope="module")
def validation():
    return Validation([data.astronaut()], CONFIG, count=3, seed=5)


def test_every_crop_has_visible_local_blur_and_the_seed_decides(validation):
    assert {sample.kind for sample in validation.samples} <= {"objects", "region"}
    assert all(sample.visible.mean() >= 0.005 for sample in validation.samples)
    again = Validation([data.astronaut()], CONFIG, count=3, seed=5)
    other = Validation([data.astronaut()], CONFIG, count=3, seed=6)
    pairs = [(a.samples[0].blurred, validation.samples[0].blurred) for a in (again, other)]
    assert [np.array_equal(*pair) for pair in pairs] == [True, False]


def dense_gain(network, sample, mask):
    image = to_tensor(sample.blurred.astype(np.float32) / 255)
    residual = network.restore(image, torch.from_numpy(mask)[None, None].float()).residual
    restored = (image + residual).clamp(0, 1)[0].permute(1, 2, 0).numpy()
    after = psnr(np.rint(restored * 255).astype(np.uint8), sample.sharp, sample.mask)
    return after - psnr(sample.blurred, sample.sharp, sample.mask)


@torch.no_grad()
def test_it_measures_what_masked_dense_does(validation):
    network = random_network(TINY, seed=3)
    gains, true_gains, ious = [], [], []
    for sample in validation.samples:
        image = to_tensor(sample.blurred.astype(np.float32) / 255)
        found = (network.predict_mask(image)[0, 0] >= 0).numpy()
        ious.append(overlap(found, sample.mask).iou)
        gains.append(dense_gain(network, sample, dilate(found, DEFAULT_DILATE)))
        true_gains.append(dense_gain(network, sample, dilate(sample.mask, DEFAULT_DILATE)))
    means, _ = validation.measure(network)
    # A restored value at the edge between two levels may round either way.
    assert means.gain == pytest.approx(np.mean(gains), abs=1e-3)
    assert means.gain_true_mask == pytest.approx(np.mean(true_gains), abs=1e-3)
    assert means.iou == pytest.approx(np.mean(ious))
    assert means.gain_true_mask < -1  # a random network harms: the figures are not zero


def straight_restorer(x, y):
    """A restorer whose trajectories all have about the direction of (x, y)."""
    network = random_network(TINY, seed=3)
    coefficients = network.restorer.motion.coefficients
    with torch.no_grad():
        coefficients.weight.zero_()
        coefficients.bias.copy_(torch.tensor([x, y, 0.0, 0.0]))
    return gathered_restorer(network)


def moving(sample, trajectory):
    """The sample with one trajectory where its mask is."""
    field = np.where(sample.mask[..., None], np.float32(trajectory), np.float32(0))
    return replace(sample, trajectory=field)


@pytest.mark.parametrize(
    ("trajectory", "degrees"), [((3, 0, 1, 1), 0), ((-3, 0, 0, 2), 0), ((2, -2, 0, 0), 45)]
)
def test_the_angle_of_the_trajectories_is_measured_modulo_180(validation, trajectory, degrees):
    sample = moving(validation.samples[0], trajectory)
    restored = restore(straight_restorer(0.1, 0.0), sample, sample.mask)
    assert restored.angle_error == pytest.approx(degrees, abs=1e-3)


def test_the_angle_counts_where_blur_is_visible_alone(validation):
    sample = moving(validation.samples[0], (3, 0, 0, 0))
    seen = np.zeros_like(sample.mask)
    rows, columns = np.nonzero(sample.mask)
    seen[rows[0], columns[0]] = True
    turned = sample.trajectory.copy()
    top, left = rows[0] // 4 * 4, columns[0] // 4 * 4
    turned[top : top + 4, left : left + 4] = np.float32([0, 3, 0, 0])
    one = replace(sample, visible=seen, trajectory=turned)
    unseen = replace(one, visible=np.zeros_like(seen))
    restorer = straight_restorer(0.1, 0.0)
    assert restore(restorer, one, one.mask).angle_error == pytest.approx(90)
    assert restore(restorer, unseen, one.mask).angle_error is None
    assert restore(restorer, one, np.zeros_like(seen)).angle_error is None


def test_a_network_that_changes_nothing_gains_nothing(validation):
    network = M2AENet(TINY).eval()
    with torch.no_grad():
        for parameter in network.restorer.head.parameters():
            parameter.zero_()
    means, sheet = validation.measure(network)
    assert (means.gain, means.gain_true_mask) == (0, 0)
    assert sheet.shape == (3 * 64, 5 * 64, 3)
    first = validation.samples[0]
    assert np.array_equal(sheet[:64, :64], first.blurred)
    assert np.array_equal(sheet[:64, 64:128], first.blurred)
    assert np.array_equal(sheet[:64, 128:192], first.sharp)
    assert np.array_equal(sheet[:64, 256:, 0] > 0, first.mask)
