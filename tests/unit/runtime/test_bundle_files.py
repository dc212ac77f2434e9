"""Where a bundle may be written: nothing that is not m2a's is ever replaced."""

from __future__ import annotations

import pytest

from m2a.errors import UsageError
from m2a.runtime.bundle_files import check_replaceable


def test_a_bundle_an_empty_folder_and_a_new_name_are_taken(copied, tmp_path):
    (tmp_path / "empty").mkdir()
    (copied / "engines").mkdir()
    for place in (copied, tmp_path / "empty", tmp_path / "new"):
        check_replaceable(place)


def test_a_folder_of_photos_is_never_to_be_deleted(tmp_path):
    for name in ("b.jpg", "a.jpg", "c.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError) as caught:
        check_replaceable(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: holds other files than a bundle; choose another folder with -o "
        "(found a.jpg and 2 more)"
    )


def test_a_photo_within_a_bundle_is_not_lost(copied):
    (copied / "holiday.jpg").touch()
    with pytest.raises(UsageError, match=r"found holiday\.jpg\)"):
        check_replaceable(copied)


def test_a_file_and_a_folder_that_cannot_be_made_are_refused(copied, tmp_path):
    with pytest.raises(UsageError, match="found a file, expected a folder"):
        check_replaceable(copied / "manifest.json")
    with pytest.raises(UsageError, match="does not exist"):
        check_replaceable(tmp_path / "nowhere" / "bundle")


def test_a_damaged_bundle_is_not_replaced_either(edit):
    folder = edit(lambda manifest: manifest.pop("threshold"))
    with pytest.raises(UsageError, match=r"damaged bundle.*choose another with -o \(.*threshold"):
        check_replaceable(folder)
