"""Tiny folders of the distributed trees of ReLoBlur and GoPro, with pictures of noise."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

HEIGHT, WIDTH = 32, 48


def noise(seed):
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)


def square():
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[8:16, 8:20] = 255
    return mask


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, format="PNG")


def make_reloblur(folder):
    """Out of order, two pairs in one sequence, equal numbers in several, one test pair."""
    places = ["train/s02/00/00", "train/s01/01/00", "train/s01/00/01", "train/s01/00/00"]
    for seed, place in enumerate([*places, "test/scene1/00/00"]):
        save(folder / "dataset" / f"{place}_blur.png", noise(2 * seed))
        save(folder / "dataset" / f"{place}_sharp.png", noise(2 * seed + 1))
        save(folder / "masks" / f"{place}.png", square())
    return folder


def make_gopro(folder):
    """Two sequences to train on, one to test."""
    places = ["train/GOPR0372_07_01/000050", "train/GOPR0372_07_00/000048"]
    places += ["train/GOPR0372_07_00/000047", "test/GOPR0384_11_00/000001"]
    for seed, place in enumerate(places):
        split, sequence, number = place.split("/")
        for offset, kind in enumerate(("blur", "blur_gamma", "sharp")):
            save(folder / split / sequence / kind / f"{number}.png", noise(3 * seed + offset))
    return folder


def raises(error, *parts):
    """An error of one line that holds all parts, in order."""
    pattern = ".*".join(re.escape(str(part)) for part in parts)
    return pytest.raises(error, match=f"^(?!.*\n).*{pattern}")
