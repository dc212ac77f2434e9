"""`m2a export`, `m2a verify`, `m2a run`, typed one after the other in one directory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from random_network import random_network

from m2a.models import PRESETS


def m2a(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "m2a", *arguments], cwd=cwd, capture_output=True, text=True
    )


# The dense graph is half of an export: the tiny network's is traced in other tests, and the
# packaged one's verified.
def test_from_a_random_checkpoint_to_a_deblurred_photo(tmp_path):
    network = random_network(PRESETS["small"], seed=3)
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save(state, tmp_path / "model.pth")
    pixels = np.random.default_rng(0).integers(0, 256, (75, 99, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")

    options = ("--fp16", "--without-dense", "--json")
    exported = m2a("export", "--ckpt", "model.pth", *options, cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    report = json.loads(exported.stdout)
    assert report["model"] == "small"
    assert max(report["parity"].values()) <= 1e-4

    verified = m2a("verify", "--json", cwd=tmp_path)
    assert verified.returncode == 0, verified.stderr
    variants = json.loads(verified.stdout)["variants"]
    assert [variant["precision"] for variant in variants] == ["fp32", "fp16"]
    for stage in [stage for variant in variants for stage in variant["stages"]]:
        assert stage["error"] <= stage["limit"]

    # A random predictor may find nothing: restore everything, so that both graphs have run.
    run = m2a("run", "photo.png", "-o", "out.png", "--mask-in", "full", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "./m2a-bundle" in run.stderr
    with Image.open(tmp_path / "out.png") as output:
        assert output.size == (99, 75)
