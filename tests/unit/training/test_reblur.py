"""The reblur loss on pictures whose motion is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from m2a.models.restorer import trajectory_times
from m2a.training.batches import restoration_batch
from m2a.training.light import to_display as display_by_table
from m2a.training.light import to_linear
from m2a.training.reblur import (
    EXPOSURE_POINTS,
    linear_light,
    pixel_motion,
    reblur,
    reblur_loss,
    to_display,
)
from m2a.training.records import Crops

SIDE = 64
EXACT = 1e-5
"""Float32 sums of fifteen samples."""


def smooth_noise(count=2):
    """Linear light f32 [count, SIDE, SIDE, 3] with structure of a few pixels."""
    noise = np.random.default_rng(0).random((count, SIDE, SIDE, 3)).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(picture, (0, 0), 2.0) for picture in noise])
    stretched = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return torch.from_numpy(stretched)


def centre_sites(count=2, margin=24):
    grid = np.mgrid[0:count, margin : SIDE - margin, margin : SIDE - margin]
    return torch.from_numpy(grid.reshape(3, -1).T.copy())


def motion_of(sites, *coefficients):
    return torch.tensor(coefficients, dtype=torch.float32).expand(len(sites), 4).contiguous()


def slow_reblur(sharp, sites, coefficients):
    """Pixel by pixel, time by time, corner by corner."""
    a_x, a_y, b_x, b_y = coefficients
    out = []
    for crop, y, x in sites.tolist():
        light = np.zeros(3)
        for t in trajectory_times(EXPOSURE_POINTS).tolist():
            place_x, place_y = x + a_x * t + b_x * t * t, y + a_y * t + b_y * t * t
            left, top = int(np.floor(place_x)), int(np.floor(place_y))
            u, v = place_x - left, place_y - top
            picture = sharp[crop].numpy()
            light += (1 - v) * ((1 - u) * picture[top, left] + u * picture[top, left + 1])
            light += v * ((1 - u) * picture[top + 1, left] + u * picture[top + 1, left + 1])
        out.append(light / EXPOSURE_POINTS)
    return np.array(out)


@pytest.mark.parametrize("coefficients", [(0, 0, 0, 0), (7.3, -2.4, 0, 0), (3.1, 5.5, -4.2, 2.7)])
def test_it_is_the_mean_along_the_trajectory(coefficients):
    sharp, sites = smooth_noise(), centre_sites(margin=29)
    light, inside = reblur(sharp, sites, motion_of(sites, *coefficients))
    assert inside.all()
    assert np.abs(light.numpy() - slow_reblur(sharp, sites, coefficients)).max() <= EXACT


def test_without_motion_the_truth_stays_itself():
    sharp, sites = smooth_noise(), centre_sites()
    light, _ = reblur(sharp, sites, motion_of(sites, 0, 0, 0, 0))
    assert (light - sharp[tuple(sites.T)]).abs().max() <= EXACT


def test_a_trajectory_and_its_reverse_blur_alike():
    sharp, sites = smooth_noise(), centre_sites()
    forth, back = (reblur(sharp, sites, motion_of(sites, s * 9, s * 4, 0, 0))[0] for s in (1, -1))
    assert (forth - back).abs().max() <= EXACT


def test_a_trajectory_that_leaves_its_crop_says_so_and_reads_no_other_crop():
    sharp = torch.zeros((2, SIDE, SIDE, 3))
    sharp[1] = 1.0
    sites = torch.tensor([[0, SIDE - 2, 5], [0, 30, 30]])
    light, inside = reblur(sharp, sites, motion_of(sites, 0, 8, 0, 0))
    assert inside.tolist() == [False, True]
    assert not light.any()


def test_the_loss_is_least_at_the_true_motion():
    sharp, sites = smooth_noise(), centre_sites()
    true = (8.0, 3.0, 2.0, -1.0)
    blurred = to_display(reblur(sharp, sites, motion_of(sites, *true))[0])
    at_truth = reblur_loss(blurred, sharp, sites, motion_of(sites, *true))
    assert at_truth.item() == pytest.approx(1e-3, rel=0.01)  # Charbonnier's own constant
    for wrong in [(0, 0, 0, 0), (4, 1.5, 1, -0.5), (3, -8, 0, 0), (12, 5, 2, -1)]:
        assert reblur_loss(blurred, sharp, sites, motion_of(sites, *wrong)) > 5 * at_truth


def test_its_gradient_leads_to_the_true_motion():
    sharp, sites = smooth_noise(), centre_sites()
    true = (6.0, 2.0, 0.0, 0.0)
    blurred = to_display(reblur(sharp, sites, motion_of(sites, *true))[0])
    guess = torch.tensor([4.0, 0.5, 0.0, 0.0], requires_grad=True)
    optimizer = torch.optim.Adam([guess], lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        reblur_loss(blurred, sharp, sites, guess.expand(len(sites), 4)).backward()
        optimizer.step()
    assert (guess.detach() - torch.tensor(true)).abs().max() < 0.2


def test_where_every_trajectory_leaves_its_crop_the_loss_is_zero():
    sharp, sites = smooth_noise(), torch.tensor([[0, 0, 0]])
    assert reblur_loss(torch.zeros((1, 3)), sharp, sites, motion_of(sites, 30, 0, 0, 0)) == 0


def test_the_transfer_function_is_the_generators_and_its_gradient_finite():
    linear = torch.linspace(0, 1, 1001).requires_grad_()
    display = to_display(linear)
    assert np.abs(display.detach().numpy() - display_by_table(linear.detach().numpy())).max() < 2e-4
    display.sum().backward()
    assert torch.isfinite(linear.grad).all()


def test_linear_light_is_the_generators():
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(1, 16, 16, 3)
    assert np.array_equal(linear_light(images)[0].numpy(), to_linear(images[0].numpy().copy()))


def test_pixels_take_the_motion_of_their_cell():
    masks = np.random.default_rng(1).random((2, SIDE, SIDE)) < 0.2
    black = torch.zeros((2, SIDE, SIDE, 3), dtype=torch.uint8)
    unknown = torch.full((2, SIDE // 4, SIDE // 4, 4), torch.nan)
    active = torch.from_numpy(masks)
    crops = Crops(blurred=black, sharp=black, label=active.to(torch.uint8), motion=unknown)
    batch = restoration_batch(crops, active)
    cells = np.unique(np.argwhere(masks) // (1, 4, 4), axis=0)
    motion = torch.from_numpy(cells.astype(np.float32)[:, [0, 1, 2, 2]])
    spread = pixel_motion(motion, batch.tables)
    assert np.array_equal(spread[:, :3].numpy(), batch.sites.numpy() // (1, 4, 4))
