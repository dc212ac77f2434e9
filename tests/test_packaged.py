"""The packaged model on the example photo: what the README promises."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import m2a
from m2a.evaluation import overlap, psnr
from m2a.export.mask_defaults import mask_defaults
from m2a.export.masked_dense import MaskedDenseDeblurrer
from m2a.models.checkpoint import open_checkpoint
from m2a.runtime.verify import verify

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
CHECKPOINTS = EXAMPLES.parent / "checkpoints"


@pytest.fixture(scope="module")
def deblurrer():
    return m2a.load()


@pytest.fixture(scope="module")
def pictures():
    files = {"blurred": "shuttle.png", "sharp": "shuttle-sharp.png", "mask": "shuttle-mask.png"}
    pictures = {}
    for name, file in files.items():
        with Image.open(EXAMPLES / file) as image:
            pictures[name] = np.asarray(image)
    return pictures


@pytest.fixture(scope="module")
def result(deblurrer, pictures):
    return deblurrer(pictures["blurred"])


def test_most_of_what_moves_is_found(deblurrer, pictures, result):
    found = overlap(result.probability >= deblurrer.threshold, pictures["mask"] > 0)
    assert found.recall >= 0.5


def test_the_mask_fits(deblurrer, pictures, result):
    found = overlap(result.probability >= deblurrer.threshold, pictures["mask"] > 0)
    assert found.iou >= 0.5


def test_psnr_inside_the_true_mask_rises_by_1_db(pictures, result):
    true = pictures["mask"] > 0
    before = psnr(pictures["blurred"], pictures["sharp"], true)
    assert psnr(result.image, pictures["sharp"], true) >= before + 1


def test_pixels_outside_the_dilated_mask_are_identical(pictures, result):
    outside = ~result.mask
    np.testing.assert_array_equal(result.image[outside], pictures["blurred"][outside])


@pytest.mark.xfail(strict=True, reason="a goal that the packaged model misses: it covers 12 %")
def test_the_sharp_scene_is_nearly_left_alone(deblurrer, pictures):
    assert deblurrer(pictures["sharp"]).coverage <= 0.05


def test_the_packaged_bundle_verifies(deblurrer):
    assert verify(deblurrer.bundle, deblurrer).failed is None


def test_the_checkpoint_of_the_package_is_the_one_in_the_repository(deblurrer):
    _, header, content = open_checkpoint(CHECKPOINTS / "small.safetensors")
    recorded = deblurrer.bundle.manifest["model"]["checkpoint"]["sha256"]
    assert hashlib.sha256(content).hexdigest() == recorded
    assert (header["threshold"], header["dilate"]) == (deblurrer.threshold, deblurrer.dilate)


def test_base_finds_and_gains_more(deblurrer, pictures, result):
    path = CHECKPOINTS / "base.safetensors"
    network, header, _ = open_checkpoint(path)
    assert network.config.name == "base"
    mask = mask_defaults(header, path, threshold=None, dilate=None)
    base = MaskedDenseDeblurrer(network, **mask._asdict())(pictures["blurred"])
    true = pictures["mask"] > 0
    masks = (of.probability >= deblurrer.threshold for of in (base, result))
    finer, coarser = (overlap(mask, true).iou for mask in masks)
    assert finer >= coarser + 0.1
    gained = psnr(base.image, pictures["sharp"], true) - psnr(result.image, pictures["sharp"], true)
    assert gained >= 0.5
