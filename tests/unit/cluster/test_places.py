"""Names of objects that would lead out of a folder, and temporary files; no Ray is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from m2a.cluster.names import check_name
from m2a.cluster.places import Place
from m2a.errors import UsageError

LEADING_OUT = ["", "/{}/x.jpg", "a//x.jpg", "../x.jpg", "a/../../x.jpg", "./x.jpg", "a/", ".."]


@pytest.mark.parametrize("name", LEADING_OUT)
def test_a_name_that_leads_out_is_neither_written_nor_looked_for(tmp_path, name):
    inside = Place.of(str(tmp_path / "inside"), option="-o")
    name = name.format(tmp_path.as_posix().lstrip("/"))
    with pytest.raises(UsageError, match="neither empty nor"):
        inside.write(name, b"")
    with pytest.raises(UsageError, match="neither empty nor"):
        inside.existing(["a.jpg", name])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a\\..\\x.jpg", "C:x.jpg", "C:/x.jpg", "\\\\host\\share\\x.jpg"])
def test_windows_takes_more_for_a_way_out(name):
    check_name(name, windows=False)
    with pytest.raises(UsageError, match="neither backslash nor colon"):
        check_name(name, windows=True)


def test_names_as_they_should_be():
    for windows in (False, True):
        for name in ("x.jpg", "a/b/..x.jpg", ".m2a/run.json", "a b/…/ü.png"):
            check_name(name, windows=windows)


def test_objects_that_would_lead_out_are_rows(monkeypatch):
    names = ["/etc/x.jpg", "a//b.jpg", "../c.jpg", ".hidden/d.jpg", "/notes.txt", "e.jpg"]
    monkeypatch.setattr(Place, "_objects", lambda *_, **__: iter(names))
    place = Place.of("memory://in", option="SOURCE")
    listing = place.pictures(recursive=True, apart=Place.of("out", option="-o"))
    assert listing.names == ["e.jpg"]
    assert list(listing.unreadable) == [
        "memory://in//etc/x.jpg",
        "memory://in/a//b.jpg",
        "memory://in/../c.jpg",
    ]
    assert all("rename it" in why for why in listing.unreadable.values())


def test_a_temporary_file_that_is_renamed_meanwhile_stops_nothing(monkeypatch, tmp_path):
    left = tmp_path / ".m2a-2.tmp"
    left.write_bytes(b"")
    monkeypatch.setattr(Path, "rglob", lambda *_: iter([tmp_path / ".m2a-1.tmp", left]))
    Place.of(str(tmp_path), option="-o").remove_unfinished(since=0)
    assert not left.exists()
