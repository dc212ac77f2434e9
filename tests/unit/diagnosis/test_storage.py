"""Folders are tried and not asked: the tests may run as a user whom permissions do not stop."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from m2a.diagnosis.finding import Status
from m2a.diagnosis.storage import folder_finding


def judge(folder):
    return folder_finding("working folder", Path(folder), elsewhere="work in another folder")


@pytest.fixture
def refusing(monkeypatch):
    """Every write fails with the given error."""

    def refuse(code):
        def write_bytes(self, data):
            raise OSError(code, os.strerror(code), str(self))

        monkeypatch.setattr(Path, "write_bytes", write_bytes)

    return refuse


def test_a_writable_folder_is_good_and_left_as_it_was(tmp_path):
    finding = judge(tmp_path)
    assert finding.status is Status.GOOD
    assert "GB free" in finding.found
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_made_yet_is_judged_by_the_one_above(tmp_path):
    finding = judge(tmp_path / "a" / "b")
    assert finding.status is Status.GOOD
    assert "not made yet" in finding.found
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="/proc refuses even the administrator")
def test_a_folder_in_which_no_file_can_be_made_is_broken():
    finding = judge("/proc/self")
    assert finding.status is Status.BROKEN
    assert "/proc/self: cannot be written to" in finding.found
    assert "work in another folder" in finding.remedy


@pytest.mark.parametrize(
    ("code", "remedy"),
    [(errno.EACCES, "chmod u+w"), (errno.EROFS, "another folder"), (errno.ENOSPC, "free some")],
)
def test_each_refusal_has_its_remedy(tmp_path, refusing, code, remedy):
    refusing(code)
    finding = judge(tmp_path)
    assert finding.status is Status.BROKEN
    assert os.strerror(code) in finding.found
    assert remedy in finding.remedy


def test_a_file_where_the_folder_should_be_is_broken(tmp_path):
    (tmp_path / "file").write_text("")
    assert judge(tmp_path / "file").status is Status.BROKEN


def test_little_space_is_broken(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**6))
    finding = judge(tmp_path)
    assert finding.status is Status.BROKEN
    assert "free some space" in finding.remedy
