"""Export: what a bundle holds, and that it is written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from random_network import TINY, random_network

import m2a.export.exporter
import m2a.export.parity
from m2a.cli import main
from m2a.errors import BundleError, CheckpointError, ParityError, UsageError
from m2a.export import export_bundle
from m2a.export.trace import DeployedRestore
from m2a.graphs.contract import ALL_CONTRACTS, CONTRACTS
from m2a.models.checkpoint import save_checkpoint
from m2a.models.cost import count_cost
from m2a.runtime.bundle import open_bundle

FILES = {
    *("manifest.json", "reference.npz", "fp32/mask.onnx", "fp32/restore.onnx", "fp32/dense.onnx")
}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def traced(monkeypatch, tiny_bundle):
    """Exports of the tiny network take its graphs as traced once: tracing costs half a minute."""
    for name in ALL_CONTRACTS:
        content = (tiny_bundle / f"fp32/{name}.onnx").read_bytes()
        monkeypatch.setattr(
            m2a.export.exporter, f"trace_{name}", lambda _, c=content: onnx.load_from_string(c)
        )


@pytest.fixture
def old_bundle(tiny_bundle, tmp_path):
    return shutil.copytree(tiny_bundle, tmp_path / "bundle")


@pytest.fixture
def manifest(tiny_bundle):
    return json.loads((tiny_bundle / "manifest.json").read_text())


def test_the_bundle_holds_the_stated_files(tiny_bundle):
    assert set(contents(tiny_bundle)) == FILES


def test_no_temporary_directory_is_left(tiny_bundle):
    assert [path.name for path in tiny_bundle.parent.iterdir()] == ["bundle"]


def test_the_manifest_names_model_and_preprocessing(manifest, tiny_checkpoint):
    assert manifest["schema"] == 1
    assert manifest["model"]["name"] == "custom"
    assert manifest["model"]["config"] == TINY.to_json()
    assert manifest["model"]["checkpoint"] == {
        "name": tiny_checkpoint.name,
        "sha256": hashlib.sha256(tiny_checkpoint.read_bytes()).hexdigest(),
    }
    assert manifest["model"]["flop_per_pixel"] == vars(count_cost(TINY))
    assert manifest["preprocessing"] == {
        "color": "RGB",
        "range": [0, 1],
        "padding": "reflect right and bottom",
        "multiple": 32,
        "patch": 5,
    }
    assert (manifest["threshold"], manifest["dilate"]) == (0.5, 4)
    assert manifest["metrics"] == {"gain_db": 1.5}
    assert {"m2a", "torch", "onnx", "onnxruntime", "numpy"} <= set(manifest["versions"])


def test_the_manifest_counts_the_parameters(manifest, tiny_network):
    counted = manifest["model"]["parameters"]
    assert set(counted) == {"mask", "restore"}
    assert sum(counted.values()) == sum(p.numel() for p in tiny_network.parameters())


def test_the_manifest_has_the_hash_and_the_ports_of_every_graph(manifest, tiny_bundle):
    for name, graph in manifest["graphs"]["fp32"].items():
        assert graph["path"] == f"fp32/{name}.onnx"
        content = (tiny_bundle / graph["path"]).read_bytes()
        assert graph["sha256"] == hashlib.sha256(content).hexdigest()
        for kind in ("inputs", "outputs"):
            ports = getattr(CONTRACTS[name], kind)
            assert graph[kind] == [
                {"name": p.name, "dtype": p.dtype, "shape": list(p.shape)} for p in ports
            ]
    content = (tiny_bundle / "reference.npz").read_bytes()
    assert manifest["reference"]["sha256"] == hashlib.sha256(content).hexdigest()


def test_every_stage_keeps_parity(tiny_export, manifest):
    assert set(tiny_export.parity) == {
        "mask: batch norms folded",
        "mask: onnxruntime",
        "restore.residual: gathered",
        "restore.residual: onnxruntime",
        "restore.motion: gathered",
        "restore.motion: onnxruntime",
        "dense.residual: onnxruntime",
        "dense.motion: onnxruntime",
    }
    assert all(0 <= error <= 1e-4 for error in tiny_export.parity.values())
    assert set(manifest["parity"]) == set(tiny_export.parity)


def test_the_report_says_what_was_written(tiny_export):
    assert tiny_export.sizes == {n: len(c) for n, c in contents(tiny_export.bundle).items()}
    assert tiny_export.model == "custom"
    assert tiny_export.cost == count_cost(TINY)


def test_the_reference_is_the_networks_own_and_not_constant(tiny_bundle):
    reference = open_bundle(tiny_bundle).reference()
    assert reference.image.shape == (150, 210, 3)
    assert reference.residual[reference.mask].std() > 0.05
    assert not reference.residual[~reference.mask].any()


@pytest.mark.usefixtures("traced")
def test_exporting_again_replaces_the_bundle_as_a_whole(tiny_checkpoint, old_bundle):
    (old_bundle / "engines").mkdir()
    (old_bundle / "engines" / "stale.engine").write_bytes(b"of the old weights")
    steps: list[str] = []
    export_bundle(tiny_checkpoint, old_bundle, threshold=0.25, dilate=1, progress=steps.append)
    assert set(contents(old_bundle)) == FILES
    assert (open_bundle(old_bundle).threshold, open_bundle(old_bundle).dilate) == (0.25, 1)
    assert [path.name for path in old_bundle.parent.iterdir()] == [old_bundle.name]
    assert steps[0] == "reading the checkpoint"
    assert steps[-1] == "writing the bundle"


@pytest.mark.usefixtures("traced")
def test_what_was_replaced_is_said(tiny_checkpoint, old_bundle):
    command = ["export", "--ckpt", str(tiny_checkpoint), "-o", str(old_bundle), "--without-dense"]
    told = CliRunner().invoke(main, [*command, "--threshold", "0.25", "--dilate", "4"])
    assert told.exit_code == 0, told.output
    assert "replaced the older bundle; the threshold was 0.5 and is 0.25\n" in told.stdout
    told = CliRunner().invoke(main, [*command, "--threshold", "0.25", "--json"])
    assert json.loads(told.stdout)["replaced"] == {"threshold": 0.25, "dilate": 4}


@pytest.mark.usefixtures("traced")
def test_what_the_checkpoint_says_is_taken_unless_asked_otherwise(tiny_network, old_bundle):
    checkpoint = old_bundle.parent / "chosen.safetensors"
    save_checkpoint(tiny_network, checkpoint, metadata={"threshold": 0.125, "dilate": 7})
    told = export_bundle(checkpoint, old_bundle, with_dense=False)
    bundle = open_bundle(old_bundle)
    assert (told.threshold, told.dilate) == (bundle.threshold, bundle.dilate) == (0.125, 7)
    told = export_bundle(checkpoint, old_bundle, with_dense=False, dilate=np.int64(0))
    assert (told.threshold, told.dilate) == (0.125, 0)


@pytest.mark.parametrize(
    "said",
    [
        {"threshold": 2},
        {"threshold": 10**400},
        {"threshold": float("nan")},
        {"threshold": "0.5" * 1000},
        {"dilate": 1.5},
        {"dilate": True},
        {"dilate": None},
        {"dilate": 1025},
    ],
    ids=str,
)
def test_a_checkpoint_that_says_what_cannot_be_is_refused(tiny_network, tmp_path, said):
    save_checkpoint(tiny_network, tmp_path / "wrong.safetensors", metadata=said)
    with pytest.raises(CheckpointError, match="its header says") as refused:
        export_bundle(tmp_path / "wrong.safetensors", tmp_path / "bundle")
    assert len(str(refused.value)) < 300
    assert not (tmp_path / "bundle").exists()


@pytest.mark.usefixtures("traced")
def test_an_empty_directory_may_be_the_target(tiny_checkpoint, tmp_path):
    export_bundle(tiny_checkpoint, tmp_path / "empty")
    assert set(contents(tmp_path / "empty")) == FILES


def test_a_directory_that_is_no_bundle_is_left_untouched(tiny_checkpoint, tmp_path):
    home = tmp_path / "photos"
    home.mkdir()
    (home / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(UsageError, match="holds other files than a bundle"):
        export_bundle(tiny_checkpoint, home)
    assert contents(tmp_path) == {"photos/holiday.jpg": b"precious"}


def test_a_file_is_left_untouched(tiny_checkpoint, tmp_path):
    (tmp_path / "notes").write_bytes(b"precious")
    with pytest.raises(UsageError, match="found a file, expected a folder"):
        export_bundle(tiny_checkpoint, tmp_path / "notes")
    assert contents(tmp_path) == {"notes": b"precious"}


def test_a_missing_parent_folder_is_named(tiny_checkpoint, tmp_path):
    with pytest.raises(UsageError, match="nowhere does not exist"):
        export_bundle(tiny_checkpoint, tmp_path / "nowhere" / "bundle")


@pytest.mark.parametrize("settings", [{"threshold": 0}, {"threshold": 1}, {"dilate": -1}])
def test_settings_out_of_range_are_refused(tiny_checkpoint, tmp_path, settings):
    with pytest.raises(UsageError, match=r"expected a (threshold|dilation)"):
        export_bundle(tiny_checkpoint, tmp_path / "bundle", **settings)
    assert not list(tmp_path.iterdir())


def test_a_missing_checkpoint_leaves_nothing(tmp_path):
    with pytest.raises(CheckpointError):
        export_bundle(tmp_path / "none.pth", tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("traced")
def test_a_network_that_does_nothing_is_refused(tmp_path):
    network = random_network(TINY, seed=0)
    torch.nn.init.zeros_(network.restorer.head.weight)
    save_checkpoint(network, tmp_path / "zero.safetensors")
    with pytest.raises(ParityError, match="residual is constant"):
        export_bundle(tmp_path / "zero.safetensors", tmp_path / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["zero.safetensors"]


class Skewed(DeployedRestore):
    """One weight of the gathered form is off."""

    part = "head"

    def __init__(self, network):
        super().__init__(network)
        with torch.no_grad():
            self.restorer.get_submodule(self.part).weight[0, 0] += 0.01


class SkewedMotion(Skewed):
    part = "motion.coefficients"


@pytest.mark.usefixtures("traced")
def test_a_parity_failure_names_stage_and_case_and_writes_nothing(
    tiny_checkpoint, tmp_path, monkeypatch
):
    monkeypatch.setattr(m2a.export.parity, "DeployedRestore", Skewed)
    with pytest.raises(ParityError, match=r"'restore\.residual: gathered' is off by .* '1×1, 1×1'"):
        export_bundle(tiny_checkpoint, tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("traced")
def test_a_parity_failure_leaves_the_old_bundle(tiny_checkpoint, old_bundle, monkeypatch):
    before = contents(old_bundle)
    monkeypatch.setattr(m2a.export.parity, "DeployedRestore", SkewedMotion)
    with pytest.raises(ParityError, match="restore"):
        export_bundle(tiny_checkpoint, old_bundle)
    assert contents(old_bundle) == before
    assert [path.name for path in old_bundle.parent.iterdir()] == [old_bundle.name]


@pytest.mark.usefixtures("traced")
def test_a_graph_of_other_weights_fails_at_onnxruntime(tmp_path):
    other = random_network(TINY, seed=9)
    other.mask_predictor.load_state_dict(random_network(TINY, seed=0).mask_predictor.state_dict())
    save_checkpoint(other, tmp_path / "other.safetensors")
    with pytest.raises(ParityError, match=r"'restore\.residual: onnxruntime'"):
        export_bundle(tmp_path / "other.safetensors", tmp_path / "bundle")


@pytest.mark.usefixtures("traced")
def test_a_swap_that_fails_leaves_the_old_bundle(tiny_checkpoint, old_bundle, monkeypatch):
    before = contents(old_bundle)
    rename = Path.rename

    def failing(self, target):
        if self.suffix == ".new":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(BundleError, match="No space left on device"):
        export_bundle(tiny_checkpoint, old_bundle)
    assert contents(old_bundle) == before
    assert [path.name for path in old_bundle.parent.iterdir()] == [old_bundle.name]
