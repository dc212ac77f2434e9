"""The bundle that the commands would take."""

from __future__ import annotations

import shutil

import pytest

from m2a.diagnosis.bundles import bundle_finding
from m2a.diagnosis.finding import Status


@pytest.fixture
def damaged(tiny_bundle, tmp_path):
    """A copy of which one byte of the named file is changed."""

    def damage(name):
        folder = shutil.copytree(tiny_bundle, tmp_path / "m2a-bundle")
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)
        return folder

    return damage


def test_a_whole_bundle_is_good(tiny_bundle):
    finding = bundle_finding(tiny_bundle)
    assert finding.status is Status.GOOD
    assert str(tiny_bundle) in finding.found


@pytest.mark.parametrize("name", ["fp32/mask.onnx", "fp32/restore.onnx", "reference.npz"])
def test_a_changed_byte_is_broken_and_named(damaged, name):
    finding = bundle_finding(damaged(name))
    assert finding.status is Status.BROKEN
    assert f"{name} is not the file that was exported" in finding.found
    assert finding.remedy == "m2a export --ckpt model.pth"


def test_it_is_searched_as_run_does(damaged, monkeypatch):
    monkeypatch.chdir(damaged("fp32/mask.onnx").parent)
    monkeypatch.delenv("M2A_BUNDLE", raising=False)
    finding = bundle_finding(None)
    assert finding.status is Status.BROKEN
    assert "remove ./m2a-bundle" in finding.remedy


def test_a_damaged_packaged_one_is_installed_again(damaged, monkeypatch):
    folder = damaged("fp32/mask.onnx")
    monkeypatch.setattr("m2a.runtime.bundle.PACKAGED", folder)
    monkeypatch.delenv("M2A_BUNDLE", raising=False)
    assert bundle_finding(None).remedy == "pip install --force-reinstall m2a"


def test_the_environment_variables_is_named_where_it_leads_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("M2A_BUNDLE", str(tmp_path / "nowhere"))
    finding = bundle_finding(None)
    assert finding.status is Status.BROKEN
    assert "nowhere" in finding.found
    assert "unset M2A_BUNDLE" in finding.remedy
