"""The direction of dependencies (DESIGN section 8), read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import m2a

PACKAGE = Path(m2a.__file__).parent

EVERYONE = {"errors", "_version", "files", "cache", "extras"}

LAYERS = {
    "errors": set(),
    "_version": set(),
    "files": set(),
    "cache": set(),
    "extras": set(),
    "runtime": {"graphs", "machine"},
    "graphs": set(),
    "models": set(),
    "evaluation": {"runtime"},
    "reports": {"runtime"},
    "serving": {"reports", "runtime"},
    "machine": set(),
    "diagnosis": {"machine", "runtime"},
    "benchmark": {"machine", "runtime"},
    "cluster": {"engines", "machine", "runtime"},
    "calibration": {"graphs", "runtime", "evaluation"},
    "engines": {"graphs", "machine", "runtime"},
    "triton": {"engines", "graphs", "machine", "runtime"},
    "export": {"models", "graphs", "runtime"},
    "training": {"models", "runtime", "evaluation"},
}
"""Layer → what it may import beside itself and `EVERYONE`."""

TOPS = {"__init__", "__main__", "cli", "commands"}
"""May import all: the public API and the command line."""

WITH_TORCH = {"models", "training", "export"}

FILES = sorted(PACKAGE.rglob("*.py"))


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path) -> set[str]:
    """Full names of all modules a file imports, at any depth, as `package.module`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno} is a relative import"
            # `from m2a import runtime` imports a module too.
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def identify(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def test_every_folder_has_its_place_in_the_layout():
    known = {*LAYERS, *TOPS}
    assert {layer_of(path) for path in FILES} <= known


@pytest.mark.parametrize("path", FILES, ids=identify)
def test_a_file_imports_its_own_layer_and_those_below(path):
    layer = layer_of(path)
    if layer in TOPS:
        return
    allowed = {layer, *LAYERS[layer], *EVERYONE}
    parts = [name.split(".") for name in imported(path)]
    used = {name[1] for name in parts if name[0] == "m2a" and len(name) > 1}
    assert used <= allowed, f"{layer} imports {sorted(used - allowed)}"


@pytest.mark.parametrize("path", FILES, ids=identify)
def test_only_models_training_and_export_import_torch(path):
    heavy = {name.split(".")[0] for name in imported(path)} & {"torch", "safetensors"}
    assert not heavy or layer_of(path) in WITH_TORCH


@pytest.mark.parametrize("path", FILES, ids=identify)
def test_running_a_bundle_needs_no_more_than_its_extra_installs(path):
    """A Jetson runs a bundle with NumPy, pyvips and ONNX Runtime."""
    if layer_of(path) not in {
        "runtime",
        "evaluation",
        "reports",
        "diagnosis",
        "machine",
        *EVERYONE,
    }:
        return
    # Of `m2a[eval]`, for SSIM and the contact sheet alone.
    extra = {"metrics.py": {"skimage"}, "sheet.py": {"PIL"}}.get(path.name, set())
    if path.parent.name == "video":
        extra = {"av"}  # of `m2a[video]`
    roots = {name.split(".")[0] for name in imported(path)}
    third_party = roots - set(sys.stdlib_module_names) - {"m2a"}
    assert third_party <= {"numpy", "pyvips", "onnxruntime"} | extra


def test_the_layout_has_no_cycle():
    done: set[str] = set()
    while len(done) < len(LAYERS):
        free = {layer for layer, below in LAYERS.items() if layer not in done and below <= done}
        assert free, f"a cycle among {sorted(set(LAYERS) - done)}"
        done |= free


def loaded_by(statement: str) -> set[str]:
    script = f"{statement}\nimport sys\nsys.stdout.write(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in done.stdout.split()}


HEAVY = {
    "av",
    "fastapi",
    "pyarrow",
    "ray",
    "numpy",
    "skimage",
    "rich",
    "tensorboard",
    "pytorch_optimizer",
    "torch",
    "onnx",
    "onnxruntime",
    "onnxsim",
    "pyvips",
    "cv2",
    "safetensors",
}


def test_importing_the_package_and_the_command_line_is_cheap():
    """`m2a --help` answers in under 0.3 s: nothing heavy is imported for it."""
    assert not loaded_by("import m2a, m2a.cli") & HEAVY


def test_one_photo_does_not_wait_for_what_many_need():
    """`rich` draws the progress of many; libvips and ONNX Runtime are loaded at the first use."""
    assert loaded_by("import m2a.commands.run_command") & HEAVY == {"numpy"}


def test_ray_is_imported_when_a_run_has_something_to_do():
    """Where all is done already, its seconds would be for nothing."""
    assert not loaded_by("import m2a.cluster.job") & {"ray", "fsspec"}


def test_the_runtime_is_imported_without_torch():
    loaded = loaded_by("import m2a.runtime, m2a.runtime.verify, m2a.evaluation")
    assert not loaded & {"torch", "onnx", "onnxsim", "cv2", "safetensors", "skimage"}


@pytest.mark.parametrize("name", m2a.__all__)
def test_every_public_name_exists(name):
    assert getattr(m2a, name) is not None
