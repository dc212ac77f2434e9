"""libvips: versions and formats, judged; and the installed one, asked."""

from __future__ import annotations

import pytest

from m2a.diagnosis.finding import Status
from m2a.diagnosis.pictures import INDISPENSABLE, judge_libvips, libvips_finding
from m2a.runtime import decoding
from m2a.runtime.decoding import FORMATS, readable_formats


def test_the_installed_libvips_reads_what_it_says():
    finding = libvips_finding()
    assert finding.status is Status.GOOD
    assert all(name in finding.found for name in INDISPENSABLE)


@pytest.mark.parametrize(
    ("version", "lacking", "status"),
    [
        ((8, 15, 0), set(), Status.GOOD),
        ((8, 14, 5), set(), Status.BROKEN),
        ((8, 18, 0), {"AVIF/HEIF"}, Status.MISSING),
        ((8, 18, 0), {"JPEG"}, Status.BROKEN),
    ],
)
def test_versions_and_formats_are_judged(version, lacking, status):
    formats = [name for name in FORMATS if name not in lacking]
    finding = judge_libvips(version, formats, known=FORMATS)
    assert finding.status is status
    assert all(f"lacks {name}" in finding.found for name in lacking)
    assert ("pip install" in finding.remedy) == (status is not Status.GOOD)


def test_a_loader_that_libvips_lacks_is_not_listed(monkeypatch):
    monkeypatch.setitem(decoding._LOADERS, "AVIF/HEIF", "no_such_loader")
    assert readable_formats() == tuple(name for name in FORMATS if name != "AVIF/HEIF")


def test_one_that_cannot_be_loaded_is_broken(tmp_path, monkeypatch):
    (tmp_path / "pyvips.py").write_text("raise OSError('cannot load library libvips.so.42')")
    monkeypatch.syspath_prepend(tmp_path)
    finding = libvips_finding()
    assert finding.status is Status.BROKEN
    assert "libvips.so.42" in finding.found
