"""`m2a report`: the page, the exit code, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image
from unreadable import lock_folders

HOSTILE = "<img src=x onerror=alert(1)>.png"


def lines(result) -> list[str]:
    """What standard error says, without the line that names the bundle."""
    return [line for line in result.stderr.splitlines() if not line.startswith("bundle:")]


def assert_refused(result, code: int, *words: str) -> None:
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit)
    (line,) = lines(result)
    for word in words:
        assert word in line
    assert not Path("report.html").exists()
    assert not list(Path().glob(".m2a-*"))


def test_a_photo_becomes_a_page(invoke, photo):
    before = photo.read_bytes()
    result = invoke("report", photo, "-o", "report.html", "--mask-in", "full", "--dilate", 3)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    (line,) = lines(result)
    assert line.startswith("report.html: 1 photo, ")
    page = Path("report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "100.0 % of the pixels restored" in page
    assert "given: all pixels" in page
    assert photo.read_bytes() == before


def test_threshold_and_dilation_are_those_that_were_asked_for(invoke, photo):
    invoke("report", photo, "-o", "report.html", "--threshold", 0.375, "--dilate", 13)
    page = Path("report.html").read_text(encoding="utf-8")
    assert "<dd>0.375</dd>" in page
    assert "<dd>13 pixels</dd>" in page


def test_an_ensemble_is_told(invoke, photo):
    invoke("report", photo, "-o", "several.html", "--ensemble", 4)
    invoke("report", photo, "-o", "once.html")
    assert "<dd>mean of 4 turns</dd>" in Path("several.html").read_text(encoding="utf-8")
    assert "mean of" not in Path("once.html").read_text(encoding="utf-8")


def test_of_several_one_that_fails_is_a_row_and_exit_code_1(invoke, photo):
    Path("bad.png").write_text("bad")
    result = invoke("report", photo, "bad.png", photo, "-o", "report.html", "--json")
    assert result.exit_code == 1
    reason, summary = lines(result)
    assert reason.startswith("m2a: bad.png: found an unknown kind of file")
    assert summary.startswith("report.html: 3 photos, 1 failed, ")
    done, failed, _ = (json.loads(line) for line in result.stdout.splitlines())
    assert done["status"] == "done"
    assert done["output"] == "report.html"
    assert done["seconds"]["decode"] > 0
    assert failed["status"] == "failed"
    assert failed["error"] == reason.removeprefix("m2a: ")
    page = Path("report.html").read_text(encoding="utf-8")
    assert "Failed: found an unknown kind of file" in page
    assert page.count('<section class="photo"') == 2


@pytest.fixture
def locked(photo, monkeypatch):
    """A folder `photos` with the photo and a folder that cannot be read, not even by root."""
    for name in ("photos", "photos/locked"):
        Path(name).mkdir()
        shutil.copy(photo, name)
    lock_folders(monkeypatch, "locked")


def test_a_folder_that_cannot_be_read_is_a_row_and_exit_code_1(invoke, locked):
    result = invoke("report", "photos", "-o", "report.html", "--recursive", "--json")
    assert result.exit_code == 1
    reason, summary = lines(result)
    told = f"{Path('photos/locked')}: cannot be read: Permission denied"
    assert reason == f"m2a: {told}"
    assert summary.startswith("report.html: 2 photos, 1 failed, ")
    failed, done = (json.loads(line) for line in result.stdout.splitlines())
    assert failed["input"] == str(Path("photos/locked"))
    assert (failed["status"], failed["error"]) == ("failed", told)
    assert done["status"] == "done"
    page = Path("report.html").read_text(encoding="utf-8")
    assert "Failed: cannot be read: Permission denied" in page
    assert page.count('<section class="photo"') == 1


def test_of_folders_that_cannot_be_read_no_page_is_written(invoke, locked):
    result = invoke("report", "photos/locked", "-o", "report.html")
    assert result.exit_code == 1
    reason, why = lines(result)
    assert reason.endswith("cannot be read: Permission denied")
    assert why.startswith("m2a: report.html was not written: none of 1 photo")
    assert not Path("report.html").exists()


def test_where_none_can_be_read_an_older_page_stays(invoke):
    Path("a.png").write_text("bad")
    Path("b.png").write_text("bad")
    Path("report.html").write_text("precious")
    result = invoke("report", "a.png", "b.png", "-o", "report.html", "--overwrite", "--json")
    assert result.exit_code == 1
    statuses = [json.loads(line)["status"] for line in result.stdout.splitlines()]
    assert statuses == ["failed", "failed"]
    assert lines(result)[-1].startswith("m2a: report.html was not written: none of 2 photos")
    assert Path("report.html").read_text() == "precious"


def test_options_may_come_from_a_file(invoke, photo):
    Path("m2a.toml").write_text('mask-in = "full"\noutput = "report.html"\n')
    assert invoke("report", photo, "--config", "m2a.toml").exit_code == 0
    assert "given: all pixels" in Path("report.html").read_text(encoding="utf-8")


def test_an_existing_page_is_kept_without_overwrite(invoke, photo):
    Path("report.html").write_text("precious")
    result = invoke("report", photo, "-o", "report.html")
    assert result.exit_code == 2
    assert "--overwrite" in lines(result)[0]
    assert Path("report.html").read_text() == "precious"
    assert invoke("report", photo, "-o", "report.html", "--overwrite").exit_code == 0
    assert Path("report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_photo_is_never_replaced_whatever_its_name(invoke, photo):
    shutil.copy(photo, "photo.html")
    before = Path("photo.html").read_bytes()
    result = invoke("report", "photo.html", "-o", "photo.html", "--overwrite")
    assert_refused(result, 2, "photo.html", "to be read")
    given = invoke("report", photo, "-o", "photo.html", "--overwrite", "--mask-in", "photo.html")
    assert_refused(given, 2, "photo.html", "to be read")
    assert Path("photo.html").read_bytes() == before


class TestRefused:
    def test_a_photo_that_cannot_be_read(self, invoke):
        Path("bad.png").write_text("bad")
        assert_refused(invoke("report", "bad.png", "-o", "report.html"), 1, "bad.png", "found")

    def test_a_page_that_is_not_html(self, invoke, photo):
        assert_refused(invoke("report", photo, "-o", "report.pdf"), 2, ".pdf", ".html")

    def test_a_folder_that_is_not_there(self, invoke, photo):
        assert_refused(invoke("report", photo, "-o", "no/report.html"), 2, "create the folder")

    def test_one_mask_for_several(self, invoke, photo):
        result = invoke("report", photo, photo, "-o", "report.html", "--mask-in", "mask.png")
        assert_refused(result, 2, "mask.png", "2 photos")

    def test_a_mask_of_another_size(self, invoke, photo):
        Image.new("L", (3, 3)).save("mask.png")
        result = invoke("report", photo, "-o", "report.html", "--mask-in", "mask.png")
        assert_refused(result, 2, "3x3", "50x40")

    def test_a_precision_that_the_bundle_lacks(self, invoke, photo):
        result = invoke("report", photo, "-o", "report.html", "--precision", "int8")
        assert_refused(result, 2, "int8")


@pytest.mark.skipif(os.name == "nt", reason="Windows allows no such names")
def test_a_hostile_name_is_inert_in_a_browser(invoke, photo, browser):
    from selenium.common.exceptions import NoAlertPresentException

    photo.rename(HOSTILE)
    Path(f"bad {HOSTILE}").write_text("bad")
    result = invoke("report", HOSTILE, f"bad {HOSTILE}", "-o", "report.html")
    assert result.exit_code == 1
    browser.get(Path("report.html").resolve().as_uri())
    with pytest.raises(NoAlertPresentException):
        browser.switch_to.alert.dismiss()
    assert browser.find_element("css selector", "h1").text == HOSTILE
    assert f"bad {HOSTILE}" in browser.find_element("css selector", "nav .failed").text
    assert browser.find_elements("css selector", "img[onerror]") == []


@pytest.mark.skipif(os.name == "nt", reason="Windows allows no such names")
def test_a_name_that_is_not_utf_8_works(invoke, photo):
    name = os.fsdecode(b"caf\xe9.png")
    try:
        photo.rename(name)
    except OSError:
        pytest.skip("this file system takes only names in UTF-8")
    result = invoke("report", name, "-o", "report.html")
    assert result.exit_code == 0, result.output
    assert "caf\\udce9.png" in Path("report.html").read_text(encoding="utf-8")
