"""Packages by their metadata, planted and real."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from m2a.diagnosis.finding import Status
from m2a.diagnosis.packages import OPTIONAL, extra_finding, import_separately
from m2a.extras import EXTRAS
from m2a.machine.installed import version_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[3]


def test_the_extras_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    for extra, names in EXTRAS.items():
        declared = [line for line in extras[extra] if ";" not in line]
        assert list(names) == [re.match(r"[\w-]+", line)[0] for line in declared]


def test_a_planted_distribution_is_found(plant):
    plant("planted-package", "1.2.3")
    assert version_of("planted_package") == "1.2.3"
    assert version_of("planted-package-that-is-not-there") is None


def test_what_an_interrupted_installation_left_has_an_unknown_version(tmp_path, monkeypatch):
    (tmp_path / "halfway-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert version_of("halfway") == "unknown"


def test_a_whole_extra_is_good_and_a_lacking_one_names_its_command():
    whole = extra_finding("export", find=lambda name: "1.0")
    assert whole.status is Status.GOOD
    lacking = extra_finding("export", find=lambda name: None if name == "onnx" else "1.0")
    assert lacking.status is Status.MISSING
    assert lacking.found.endswith("not installed: onnx")
    assert lacking.remedy == "in the folder of m2a: pip install -e '.[export]'"


def test_another_distribution_of_the_same_module_stands_in():
    def find(name):
        return None if name == "opencv-python-headless" else "1.0"

    assert extra_finding("train", find=find).status is Status.GOOD


def test_a_module_is_imported_elsewhere(plant, tmp_path):
    plant("unused", "1")
    (tmp_path / "planted_module.py").write_text("__version__ = '4.5'")
    (tmp_path / "planted_wreck.py").write_text("raise OSError('libwreck.so: wrong ELF class')")
    assert import_separately("planted_module").answer == {"version": "4.5"}
    assert "wrong ELF class" in import_separately("planted_wreck").failure
    assert not {"planted_module", "planted_wreck"} & sys.modules.keys()


@pytest.mark.parametrize("extra", OPTIONAL)
def test_the_installation_under_test_has_every_extra(extra):
    assert extra_finding(extra).status is Status.GOOD
