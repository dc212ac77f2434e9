"""A mask predicted from the picture and its mirror image, from the network to the bundle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from random_network import TINY, noise_image, random_network, to_tensor

import m2a
from m2a.evaluation.score import arithmetic_of
from m2a.export.exporter import export_bundle
from m2a.export.masked_dense import MaskedDenseDeblurrer
from m2a.models.checkpoint import load_checkpoint, save_checkpoint
from m2a.runtime.parts import mask_parts
from m2a.runtime.pixels import check_pixels
from m2a.runtime.windows import PaddedPicture

MIRRORED = replace(TINY, mask_mirrored=True)

ROUNDING = 1e-5
"""Of a probability: FP32, the same products."""


@pytest.fixture(scope="module")
def network():
    return random_network(MIRRORED, seed=0)


@pytest.fixture(scope="module")
def bundle(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mirrored")
    save_checkpoint(network, folder / "mirrored.safetensors")
    return export_bundle(folder / "mirrored.safetensors", folder / "bundle").bundle


def mean_by_hand(network, image):
    with torch.no_grad():
        here = network.mask_predictor(image)
        there = network.mask_predictor(image.flip(3)).flip(3)
    assert (here - there).abs().max() > 0.1  # or nothing would be shown
    return (here + there) / 2


def test_it_is_the_mean_of_both_logits(network):
    images = torch.cat([to_tensor(noise_image(64, 96, seed=seed)) for seed in (0, 1)])
    with torch.no_grad():
        found = network.predict_mask(images)
    assert torch.allclose(found, mean_by_hand(network, images), atol=ROUNDING)


def test_a_mirrored_picture_has_the_mirrored_mask(network):
    image = to_tensor(noise_image(64, 96))
    with torch.no_grad():
        mask, mirrored = network.predict_mask(image), network.predict_mask(image.flip(3))
    assert torch.allclose(mirrored, mask.flip(3), atol=ROUNDING)


def test_the_checkpoint_remembers_it(network, tmp_path):
    save_checkpoint(network, tmp_path / "w.safetensors")
    assert load_checkpoint(tmp_path / "w.safetensors").config == MIRRORED


def test_the_bundle_predicts_it(network, bundle):
    image = noise_image(96, 64)
    found = m2a.load(bundle)(image).probability
    expected = mean_by_hand(network, to_tensor(image)).sigmoid()[0, 0].numpy()
    assert np.abs(found - expected).max() <= ROUNDING


def test_the_bundle_and_the_checkpoint_agree(network, bundle):
    picture = np.random.default_rng(0).integers(0, 256, (70, 110, 3), dtype=np.uint8)
    found = m2a.load(bundle)(picture)
    expected = MaskedDenseDeblurrer(network, threshold=0.5, dilate=2)(picture)
    assert np.ptp(found.probability) > 0.1
    assert np.abs(found.probability - expected.probability).max() <= ROUNDING


def test_it_does_not_depend_on_the_split(bundle):
    """The parts' sides are multiples of the coarsest stride: seen in the mirror they are, too."""
    whole, in_parts = m2a.load(bundle), m2a.load(bundle)
    in_parts.max_memory = 2**22
    picture = np.random.default_rng(0).integers(0, 256, (330, 420, 3), dtype=np.uint8)
    padded = PaddedPicture(check_pixels(picture))
    parts = mask_parts(whole.bundle.network, padded.box, memory=in_parts.max_memory)
    assert len(list(parts)) > 3
    expected, found = whole.predict(padded), in_parts.predict(padded)
    assert np.ptp(expected) > 0.1
    assert np.abs(found - expected).max() <= 1e-6


def test_the_manifest_says_so_and_more_memory_is_set_aside(bundle, tiny_bundle):
    mirrored, once = (m2a.load(folder).bundle.network for folder in (bundle, tiny_bundle))
    assert mirrored.mask_mirrored
    assert not once.mask_mirrored
    assert mirrored.mask_bytes > once.mask_bytes


def test_an_ensemble_does_not_mirror_it_once_more(bundle):
    picture = PaddedPicture(check_pixels(noise_image(96, 64)))
    once, twice, more = (m2a.load(bundle, ensemble=n).predict(picture) for n in (1, 2, 4))
    assert np.array_equal(once, twice)
    assert np.abs(once - more).max() > 0.05


@pytest.mark.parametrize(("ensemble", "passes"), [(1, 1), (2, 1), (4, 2), (8, 4)])
def test_its_arithmetic_has_both_pictures_already(bundle, ensemble, passes):
    found = arithmetic_of(m2a.load(bundle, ensemble=ensemble))
    assert (found.mask_passes, found.restore_passes) == (passes, ensemble)
