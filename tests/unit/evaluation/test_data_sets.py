"""Finding the pairs of ReLoBlur and GoPro, in tiny folders of the distributed trees."""

from __future__ import annotations

import pytest
from data_sets import make_gopro, make_reloblur, noise, raises, save, square

from m2a.errors import UsageError
from m2a.evaluation.datasets import find_gopro, find_reloblur
from m2a.evaluation.pairs import Pair


@pytest.fixture
def reloblur(tmp_path):
    return make_reloblur(tmp_path)


@pytest.fixture
def gopro(tmp_path):
    return make_gopro(tmp_path)


def test_reloblur_pairs_are_sorted_by_name(reloblur):
    pairs = find_reloblur(reloblur, split="train")
    assert [pair.name for pair in pairs] == ["s01/00/00", "s01/00/01", "s01/01/00", "s02/00/00"]


def test_reloblur_joins_the_three_files_of_a_pair(reloblur):
    assert find_reloblur(reloblur, split="test") == [
        Pair(
            name="scene1/00/00",
            blurred=reloblur / "dataset/test/scene1/00/00_blur.png",
            sharp=reloblur / "dataset/test/scene1/00/00_sharp.png",
            mask=reloblur / "masks/test/scene1/00/00.png",
        )
    ]


def test_gopro_pairs_are_sorted_by_name(gopro):
    names = [pair.name for pair in find_gopro(gopro, split="train")]
    expected = ["GOPR0372_07_00/000047", "GOPR0372_07_00/000048", "GOPR0372_07_01/000050"]
    assert names == expected


@pytest.mark.parametrize(("gamma", "kind"), [(False, "blur"), (True, "blur_gamma")])
def test_gopro_takes_the_chosen_blur_and_no_mask(gopro, gamma, kind):
    sequence = gopro / "test/GOPR0384_11_00"
    assert find_gopro(gopro, split="test", gamma=gamma) == [
        Pair(
            name="GOPR0384_11_00/000001",
            blurred=sequence / kind / "000001.png",
            sharp=sequence / "sharp/000001.png",
            mask=None,
        )
    ]


def test_the_blur_that_was_not_chosen_does_not_matter(gopro):
    other = gopro / "test/GOPR0384_11_00/blur_gamma"
    (other / "000001.png").rename(other / "000002.png")
    names = [pair.name for pair in find_gopro(gopro, split="test")]
    assert names == ["GOPR0384_11_00/000001"]


def test_hidden_and_other_files_are_passed_over(reloblur, gopro):
    before = find_reloblur(reloblur, split="train"), find_gopro(gopro, split="train")
    sequences = ("dataset/train/s01/00", "masks/train/s01/00", "train/GOPR0372_07_00/blur")
    for folder in sequences:
        for name in (".DS_Store", "._00_blur.png", "Thumbs.db"):
            (reloblur / folder / name).write_bytes(b"x")
        (reloblur / folder / ".cache").mkdir()
        (reloblur / folder / ".cache/00.png").write_bytes(b"x")
    assert (find_reloblur(reloblur, split="train"), find_gopro(gopro, split="train")) == before


def test_linked_folders_are_followed(reloblur, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("disk") / "s02"
    scene = reloblur / "dataset/train/s02"
    scene.rename(elsewhere)
    scene.symlink_to(elsewhere, target_is_directory=True)
    assert "s02/00/00" in [pair.name for pair in find_reloblur(reloblur, split="train")]


@pytest.mark.parametrize("find", [find_reloblur, find_gopro])
def test_an_unknown_split_is_refused(find, tmp_path):
    with raises(UsageError, "'val'", "expected one of train, test"):
        find(tmp_path, split="val")


def test_a_missing_split_names_what_was_found(gopro):
    (gopro / "test").rename(gopro / "testing")
    with raises(UsageError, gopro / "test", "found testing, train in", "expected train and test"):
        find_gopro(gopro, split="test")


def test_a_folder_that_is_not_there_is_reported(tmp_path):
    with raises(UsageError, tmp_path / "none/train", "found nothing"):
        find_gopro(tmp_path / "none", split="train")


@pytest.mark.parametrize("part", ["dataset", "masks"])
def test_reloblur_needs_pictures_and_masks(reloblur, part):
    (reloblur / part).rename(reloblur / "elsewhere")
    with raises(UsageError, reloblur / part / "train", "is not a folder"):
        find_reloblur(reloblur, split="train")


@pytest.mark.parametrize("find", [find_reloblur, find_gopro])
def test_a_split_without_pictures_is_refused(find, tmp_path):
    for folder in ("train", "dataset/train", "masks/train"):
        (tmp_path / folder / "s01/00").mkdir(parents=True)
    with raises(UsageError, "train holds no pictures", "expected", ".png"):
        find(tmp_path, split="train")


RELOBLUR_FILES = (
    "dataset/train/s01/00/00_blur.png",
    "dataset/train/s01/00/00_sharp.png",
    "masks/train/s01/00/00.png",
)


@pytest.mark.parametrize("gone", RELOBLUR_FILES)
def test_reloblur_names_the_missing_partner(reloblur, gone):
    (reloblur / gone).unlink()
    with raises(
        UsageError, reloblur / gone, "is missing; found", "expected all 3 files of s01/00/00"
    ):
        find_reloblur(reloblur, split="train")


@pytest.mark.parametrize("kept", RELOBLUR_FILES)
def test_reloblur_names_the_file_left_alone(reloblur, kept):
    for file in RELOBLUR_FILES:
        if file != kept:
            (reloblur / file).unlink()
    with raises(UsageError, "is missing; found", reloblur / kept, "(1 more are missing likewise)"):
        find_reloblur(reloblur, split="train")


@pytest.mark.parametrize("gone", ["blur", "sharp"])
def test_gopro_names_the_missing_partner(gopro, gone):
    path = gopro / "train/GOPR0372_07_00" / gone / "000048.png"
    path.unlink()
    with raises(
        UsageError, path, "is missing; found", "expected all 2 files of GOPR0372_07_00/000048"
    ):
        find_gopro(gopro, split="train")


@pytest.mark.parametrize(
    "stray",
    [
        "dataset/train/s01/00/00.png",  # neither blurred nor sharp
        "dataset/train/s01/00/00_middle.png",  # likewise
        "dataset/train/s01/00/_blur.png",  # without a number
        "dataset/train/s01/00_blur.png",  # too high
        "dataset/train/train/s01/00/00_blur.png",  # unpacked one level too deep
        "masks/train/s01/00.png",
    ],
)
def test_reloblur_refuses_pictures_outside_the_layout(reloblur, stray):
    save(reloblur / stray, square())
    with raises(UsageError, reloblur / stray, "has no place", "expected SCENE/SEQUENCE/NUMBER"):
        find_reloblur(reloblur, split="train")


@pytest.mark.parametrize("stray", ["train/GOPR0372_07_00/000047.png", "train/input/a/000047.png"])
def test_gopro_refuses_pictures_outside_the_layout(gopro, stray):
    save(gopro / stray, noise(0))
    with raises(UsageError, gopro / stray, "has no place", "one of blur, blur_gamma, sharp"):
        find_gopro(gopro, split="train")
