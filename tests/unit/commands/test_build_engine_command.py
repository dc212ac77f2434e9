"""`m2a build-engine` and `m2a inspect` of what it built, in one process without a GPU."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from m2a.cli import main
from m2a.engines.machine import this_machine
from m2a.machine.cuda_driver import CudaDriver
from m2a.runtime.bundle import open_bundle


@pytest.fixture
def invoke(tiny_bundle, tmp_path, monkeypatch):
    """Runs m2a in a folder with a bundle, its cache beside it, on a machine without a GPU."""
    shutil.copytree(tiny_bundle, tmp_path / "m2a-bundle")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    absent = CudaDriver(absent=True, failure="libcuda.so.1 is not here")
    machine = this_machine(driver=lambda: absent)
    monkeypatch.setattr("m2a.engines.machine.this_machine", lambda: machine)
    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments])


def test_engines_are_built_told_and_inspected(invoke, tmp_path):
    built = invoke("build-engine", "--fp16", "--target", "sm86")
    assert built.exit_code == 0, built.output
    assert "mask: Building engine" in built.stderr
    assert "will not run here: it needs a GPU of compute capability 8.6" in built.stdout
    assert open_bundle(tmp_path / "m2a-bundle").precisions == ("fp32", "fp16")
    (folder,) = (tmp_path / "m2a-bundle" / "engines").iterdir()

    for place in (folder, folder / "mask.engine", folder / "engine.json"):
        told = invoke("inspect", place)
        assert told.exit_code == 1
        assert "fp16 (products of the parsed network" in told.stdout
        assert "It will not run here:\n  it needs a GPU" in told.stdout
        assert f"--bundle {tmp_path / 'm2a-bundle'} --target sm86 --flavour rtx" in told.stdout

    described = json.loads(invoke("inspect", folder, "--json").stdout)
    assert described["precision"] == "fp16"
    assert len(described["reasons_against"]) == 1
    assert described["rebuild_command"].startswith("m2a build-engine --fp16 --bundle /")

    (folder / "restore.engine").write_bytes(b"something else")
    assert "is not the engine that was built" in invoke("inspect", folder).stdout

    content = json.loads((folder / "engine.json").read_text())
    content["gpu"] = "\x1b[31mred"
    (folder / "engine.json").write_text(json.dumps(content))
    assert "built on \\x1b[31mred" in invoke("inspect", folder).stdout

    (folder / "engine.json").write_text("{}")
    damaged = invoke("inspect", folder)
    assert damaged.exit_code == 1
    assert damaged.stderr.startswith("m2a: ")
    assert len(damaged.stderr.splitlines()) == 1


def test_several_targets_and_json_and_the_packaged_model(invoke, tmp_path):
    shutil.rmtree(tmp_path / "m2a-bundle")
    built = invoke("build-engine", "--target", "sm86", "--target", "sm120", "--json")
    assert built.exit_code == 0, built.output
    reports = [json.loads(line) for line in built.stdout.splitlines()]
    assert [report["compute_capability"] for report in reports] == ["8.6", "12.0"]
    assert all(report["precision"] == "fp32" and not report["runs_here"] for report in reports)
    folders = sorted((tmp_path / "cache" / "m2a" / "engines").iterdir())
    assert len(folders) == 2
    # Its bundle is found again, from the cache.
    content = json.loads((folders[0] / "engine.json").read_text())
    content["sources"]["mask"] = "0" * 64
    (folders[0] / "engine.json").write_text(json.dumps(content))
    assert "the bundle's graphs changed since: mask" in invoke("inspect", folders[0]).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 1, "there is none here; name the GPU that it is for with --target: sm75"),
        (("--target", "sm86", "--target", "sm87"), 2, "does not build for sm87 ahead of time"),
        (("--target", "sm86", "--flavour", "trt"), 1, ".[tensorrt]"),
        (("--target", "sm86", "--bundle", "nowhere"), 1, "is not a bundle"),
    ],
)
def test_misuse_is_one_line_before_any_work(invoke, tmp_path, arguments, code, words):
    before = sorted(tmp_path.rglob("*"))
    done = invoke("build-engine", "--fp16", *arguments)
    assert done.exit_code == code
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("missing", "precision"), [("onnx", "--fp16"), ("filelock", "--fp32")])
def test_a_package_that_is_missing_names_its_extra(tmp_path, missing, precision):
    """In a process of its own, in which the package cannot be imported."""
    program = (
        f"import sys; sys.modules[{missing!r}] = None; from m2a.cli import main; "
        f"main(['build-engine', {precision!r}, '--target', 'sm86'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"'{missing}'" in done.stderr
    assert ".[tensorrt" in done.stderr
    assert "Traceback" not in done.stderr
