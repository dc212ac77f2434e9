"""Verification: passes on what was exported, and names the first stage that is off."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from m2a.errors import BundleError, ImageError
from m2a.runtime.bundle import open_bundle
from m2a.runtime.loading import load, open_bundle_on
from m2a.runtime.verify import Stage, Verification, verify

STAGES = ["mask", "restore.residual", "restore.motion", "picture"]


def picture(height=50, width=70, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels)).astype(np.uint8)


def rehash(folder, file, *keys):
    """Makes the manifest agree with a changed file."""
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = manifest
    for key in keys:
        entry = entry[key]
    entry["sha256"] = hashlib.sha256((folder / file).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def perturbed(tiny_bundle, tmp_path):
    """A copy of the bundle in which a weight of a graph is off, with a matching hash."""

    def make(graph, weight, amount):
        folder = shutil.copytree(tiny_bundle, tmp_path / "perturbed")
        file = f"fp32/{graph}.onnx"
        model = onnx.load(folder / file)
        (tensor,) = [t for t in model.graph.initializer if t.name.endswith(weight)]
        values = numpy_helper.to_array(tensor).copy()
        values.flat[0] += amount
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        onnx.save(model, folder / file)
        rehash(folder, file, "graphs", "fp32", graph)
        return open_bundle(folder)

    return make


def test_the_exported_bundle_passes_on_its_reference(tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    found = verify(bundle, open_bundle_on(bundle))
    assert found.failed is None
    assert [stage.name for stage in found.stages] == STAGES
    assert all(stage.error <= 1e-4 for stage in found.stages[:3])
    assert found.backend == "ort-cpu"
    assert "torch masked dense" in found.reference
    assert found.coverage == pytest.approx(bundle.reference().mask.mean())


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_the_exported_bundle_passes_on_a_picture(tiny_bundle, channels):
    bundle = open_bundle(tiny_bundle)
    found = verify(bundle, open_bundle_on(bundle), picture(channels=channels))
    assert found.failed is None
    assert [stage.name for stage in found.stages] == STAGES
    assert "unoptimised" in found.reference


def test_without_active_pixels_the_mask_alone_is_compared(tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    found = verify(bundle, open_bundle_on(bundle, threshold=1.0), picture())
    assert [stage.name for stage in found.stages] == ["mask"]
    assert found.coverage == 0


@pytest.mark.parametrize(
    ("graph", "weight", "stage"),
    [
        ("mask", "head.0.bias", "mask"),
        ("restore", "head.bias", "restore.residual"),
        ("restore", "motion.coefficients.bias", "restore.residual"),
    ],
)
def test_the_first_stage_beyond_its_limit_is_named(perturbed, graph, weight, stage):
    bundle = perturbed(graph, weight, 0.05)
    assert verify(bundle, open_bundle_on(bundle)).failed.name == stage


def test_every_stage_is_fed_by_the_reference_and_not_by_the_stage_before(perturbed):
    """A mask graph that is off does not condemn the restoration."""
    bundle = perturbed("mask", "head.0.bias", 2.0)
    found = verify(bundle, open_bundle_on(bundle))
    assert [stage.name for stage in found.stages if not stage.passed] == ["mask"]


def test_a_wrong_motion_is_found(perturbed):
    bundle = perturbed("restore", "motion.coefficients.bias", 0.05)
    stages = {stage.name: stage for stage in verify(bundle, open_bundle_on(bundle)).stages}
    assert not stages["restore.motion"].passed


def test_an_error_that_is_no_number_does_not_pass():
    assert not Stage(name="mask", error=float("nan"), limit=1.0, measure="").passed
    assert Stage(name="mask", error=1.0, limit=1.0, measure="").passed


def test_the_first_of_several_failures_is_the_one_named():
    stages = tuple(
        Stage(name=n, error=e, limit=1.0, measure="") for n, e in (("a", 0), ("b", 2), ("c", 3))
    )
    found = Verification(reference="", backend="", precision="fp32", coverage=0.5, stages=stages)
    assert found.failed.name == "b"


def test_a_damaged_reference_is_refused(tiny_bundle, tmp_path):
    folder = shutil.copytree(tiny_bundle, tmp_path / "copied")
    with (folder / "reference.npz").open("ab") as file:
        file.write(b"\0")
    bundle = open_bundle(folder)
    with pytest.raises(BundleError, match=r"reference\.npz"):
        verify(bundle, open_bundle_on(bundle))


def test_what_is_no_picture_is_refused(tiny_bundle):
    with pytest.raises(ImageError):
        verify(open_bundle(tiny_bundle), load(tiny_bundle), np.zeros(3, np.uint8))


def test_it_works_without_torch_and_onnx(tiny_bundle):
    script = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnxsim', 'safetensors', 'cv2'):\n"
        "    sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from m2a.runtime.bundle import open_bundle\n"
        "from m2a.runtime.loading import open_bundle_on\n"
        "from m2a.runtime.verify import verify\n"
        "bundle = open_bundle(Path(sys.argv[1]))\n"
        "found = verify(bundle, open_bundle_on(bundle))\n"
        "sys.exit(found.failed is not None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tiny_bundle)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
