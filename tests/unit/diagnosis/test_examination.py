"""The whole examination: every topic once, whatever is planted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from m2a.diagnosis import examination
from m2a.diagnosis.examination import examine
from m2a.diagnosis.finding import Status

ROOT = Path(__file__).resolve().parents[3]

TOPICS = {
    *("Python", "operating system", "CPU", "memory", "working folder", "cache folder"),
    *("NumPy", "CUDA driver", "NVIDIA GPU", "Jetson", "libvips", "ONNX Runtime"),
    *("ort-cpu", "ort-cuda", "ort-tensorrt", "bundle"),
    *("TensorRT", "TensorRT for RTX", "pycuda"),
    *("extra export", "extra bench", "extra eval", "extra train", "extra video"),
    *("extra serve", "extra ray", "extra triton"),
}


def test_every_topic_is_told_once_and_a_check_that_raises_hides_no_other(monkeypatch, tiny_bundle):
    def raises(*_, **__):
        raise RuntimeError("planted")

    # A check of its own, and the source that two others share.
    monkeypatch.setattr(examination, "memory_finding", raises)
    monkeypatch.setattr(examination, "bundle_finding", raises)
    findings = list(examine(tiny_bundle))
    topics = [finding.topic for finding in findings]
    assert len(topics) == len(set(topics))
    assert set(topics) - {"power mode"} == TOPICS
    planted = [finding for finding in findings if "planted" in finding.found]
    assert [finding.topic for finding in planted] == ["memory", "bundle"]
    assert {finding.status for finding in planted} == {Status.BROKEN}


@pytest.fixture
def doctor(tmp_path):
    """Runs `m2a doctor --json` in a process whose path begins with a planted folder."""
    (tmp_path / "planted").mkdir()

    def run(**modules):
        for name, source in modules.items():
            (tmp_path / "planted" / f"{name}.py").write_text(source)
        program = f"import sys; sys.path[:0] = {[str(tmp_path / 'planted'), str(ROOT)]!r}; "
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                program + "from m2a.cli import main; main(['doctor', '--json'])",
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        report = json.loads(done.stdout)
        return done, {finding["topic"]: finding for finding in report["findings"]}

    return run


def test_a_broken_numpy_is_told_and_nothing_falls_over(doctor):
    done, found = doctor(numpy="raise ImportError('numpy was built for another Python')")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert found["NumPy"]["status"] == "broken"
    assert "another Python" in found["NumPy"]["found"]
    for topic in ("libvips", "ONNX Runtime", "bundle"):
        assert found[topic]["status"] == "missing"
        assert "NumPy" in found[topic]["found"]


def test_an_onnx_runtime_that_kills_its_process_is_told(doctor):
    done, found = doctor(onnxruntime="import os; os.abort()")
    assert done.returncode == 1
    assert found["ONNX Runtime"]["status"] == found["ort-cpu"]["status"] == "broken"
    assert "pip install --force-reinstall onnxruntime" in found["ONNX Runtime"]["remedy"]
    assert found["bundle"]["status"] == "good"
