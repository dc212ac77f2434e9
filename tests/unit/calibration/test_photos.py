"""Which photos calibrate and which judge."""

from __future__ import annotations

import shutil

import pytest

from m2a.calibration.photos import choose_photos, digest_of
from m2a.errors import UsageError


def test_no_picture_is_in_both_and_the_seed_decides(photos):
    first, again, other = (choose_photos(photos, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert {p.path for p in first.judging} != {p.path for p in other.judging}
    assert len(first.judging) == 2
    assert len(first.calibrating) == 4
    assert not {p.sha256 for p in first.judging} & {p.sha256 for p in first.calibrating}
    assert digest_of(first.judging) != digest_of(first.calibrating)


def test_copies_count_once_and_never_judge_themselves(photos, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "photos")
    shutil.copy(folder / "000.png", folder / "copy.png")
    sets = choose_photos(folder)
    assert len(sets.calibrating) + len(sets.judging) == 6
    with pytest.raises(UsageError, match="found no photo that is not in"):
        choose_photos(folder, judging=photos)


def test_photos_of_another_folder_judge(photos, tmp_path):
    for name in ("000.png", "001.png"):
        (tmp_path / "own").mkdir(exist_ok=True)
        shutil.copy(photos / name, tmp_path / "own" / name)
    sets = choose_photos(tmp_path / "own", judging=photos)
    assert [len(sets.calibrating), len(sets.judging)] == [2, 4]


def test_without_photos_it_says_what_is_needed(photos, tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UsageError, match=r"Calibration needs real photos with motion blur"):
            choose_photos(folder)
    shutil.copy(photos / "000.png", tmp_path / "one.png")
    with pytest.raises(UsageError, match=r"expected at least two.*--gate-photos"):
        choose_photos(tmp_path)


def test_of_a_synthetic_folder_the_blurred_ones_are_taken_with_their_truth(photos, tmp_path):
    for name in ("blurred", "sharp", "mask"):
        shutil.copytree(photos, tmp_path / "known" / name)
    sets = choose_photos(tmp_path / "known")
    for photo in (*sets.calibrating, *sets.judging):
        assert photo.path.parent.name == "blurred"
        assert (photo.sharp.name, photo.mask.name) == (photo.path.name, photo.path.name)
