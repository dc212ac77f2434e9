"""Photos whose every pixel matters to a random network, and a bundle that finds blur in them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from m2a.runtime.bundle import open_bundle


def write_photos(folder, seeds, size=(96, 64)):
    """Smooth colours with noise: no two alike."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        random = np.random.default_rng(seed)
        small = random.integers(0, 256, (6, 8, 3), np.uint8)
        large = np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))
        noise = random.integers(-20, 20, large.shape)
        picture = np.clip(large.astype(int) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{seed:03}.png")
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"), range(6))


@pytest.fixture
def sensitive_bundle(tiny_bundle, tmp_path):
    """A copy whose threshold lies where the random predictor's probabilities do."""
    folder = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    manifest = json.loads((folder / "manifest.json").read_text())
    with np.load(folder / "reference.npz") as reference:
        manifest["threshold"] = float(np.median(reference["probability"]))
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return open_bundle(folder)
