"""A Jetson, by the files that it has."""

from __future__ import annotations

import subprocess

import pytest

from m2a.diagnosis import jetson
from m2a.diagnosis.finding import Status
from m2a.diagnosis.jetson import jetson_findings, query_power_mode

RELEASE = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n"


@pytest.fixture
def orin(tmp_path):
    (tmp_path / "proc" / "device-tree").mkdir(parents=True)
    model = "NVIDIA Jetson Orin Nano Developer Kit\0"
    (tmp_path / "proc" / "device-tree" / "model").write_text(model)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "nv_tegra_release").write_text(RELEASE)
    return tmp_path


def judge(root, answer):
    return {f.topic: f for f in jetson_findings(root=root, power_mode=lambda: answer)}


def test_model_release_and_power_mode(orin):
    found = judge(orin, "NV Power Mode: MAXN_SUPER\n2\n")
    expected = "NVIDIA Jetson Orin Nano Developer Kit, Linux for Tegra 36.4.3"
    assert found["Jetson"].found == expected
    assert found["power mode"].found == "MAXN_SUPER (mode 2)"
    assert found["power mode"].remedy == ""


def test_a_capped_power_mode_says_how_to_lift_it(orin):
    finding = judge(orin, "NVPM WARN: fan mode is not set!\nNV Power Mode: 15W\n0\n")["power mode"]
    assert (finding.status, finding.found) == (Status.GOOD, "15W (mode 0)")
    assert "nvpmodel -m" in finding.remedy


@pytest.mark.parametrize("answer", [None, "", "NVPM ERROR"])
def test_an_unknown_power_mode_is_missing(orin, answer):
    assert judge(orin, answer)["power mode"].status is Status.MISSING


def test_another_board_with_a_device_tree_is_none(tmp_path):
    (tmp_path / "proc" / "device-tree").mkdir(parents=True)
    (tmp_path / "proc" / "device-tree" / "model").write_text("Raspberry Pi 5 Model B\0")
    found = judge(tmp_path, "NV Power Mode: MAXN")
    assert list(found) == ["Jetson"]
    assert found["Jetson"].status is Status.NOT_APPLICABLE


def test_without_the_program_the_mode_is_unknown(monkeypatch):
    monkeypatch.setattr(jetson.shutil, "which", lambda name, path: None)
    assert query_power_mode() is None


def test_a_program_that_hangs_is_ended(monkeypatch, tmp_path):
    program = tmp_path / "nvpmodel"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(jetson.shutil, "which", lambda name, path: str(program))
    assert query_power_mode(seconds=0.2) is None


def test_what_the_program_says_is_returned(monkeypatch):
    monkeypatch.setattr(jetson.shutil, "which", lambda name, path: "/usr/sbin/nvpmodel")
    done = subprocess.CompletedProcess([], 0, stdout="NV Power Mode: MAXN\n0\n")
    monkeypatch.setattr(jetson.subprocess, "run", lambda *_, **__: done)
    assert "MAXN" in query_power_mode()
