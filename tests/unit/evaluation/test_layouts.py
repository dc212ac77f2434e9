"""Which pairs a folder holds, by its layout."""

from __future__ import annotations

import pytest
from data_sets import make_gopro, make_reloblur, noise, save, square

from m2a.errors import UsageError
from m2a.evaluation import Pair, find_pairs
from m2a.evaluation.layouts import recognise
from m2a.evaluation.pairs import read_true_mask


@pytest.fixture
def folder(tmp_path):
    for name in ("b", "a"):
        save(tmp_path / "blurred" / f"{name}.png", noise(0))
        save(tmp_path / "sharp" / f"{name}.png", noise(1))
        save(tmp_path / "mask" / f"{name}.png", square())
    return tmp_path


def test_what_synth_writes_is_found_with_what_else_is_there(folder):
    save(folder / "visible/a.png", square())
    first, second = find_pairs(folder)
    assert first == Pair(
        name="a",
        blurred=folder / "blurred/a.png",
        sharp=folder / "sharp/a.png",
        mask=folder / "mask/a.png",
        visible=folder / "visible/a.png",
    )
    assert (second.name, second.visible, second.motion) == ("b", None, None)


@pytest.mark.parametrize(
    ("make", "layout", "split", "count"),
    [
        (make_reloblur, "reloblur", "test", 1),
        (make_reloblur, "reloblur", "train", 4),
        (make_gopro, "gopro", "test", 1),
        (make_gopro, "gopro", "train", 3),
    ],
)
def test_the_data_sets_are_recognised(make, layout, split, count, tmp_path):
    make(tmp_path)
    assert recognise(tmp_path) == layout
    assert len(find_pairs(tmp_path, split=split)) == count


def test_the_kind_of_gopro_blur_is_chosen(tmp_path):
    (pair,) = find_pairs(make_gopro(tmp_path), gamma=True)
    assert pair.blurred.parent.name == "blur_gamma"


def test_sharp_photographs_are_never_guessed(tmp_path):
    save(tmp_path / "street.png", noise(0))
    with pytest.raises(UsageError, match=r"pictures alone.*--layout sharp"):
        find_pairs(tmp_path)
    (pair,) = find_pairs(tmp_path, layout="sharp")
    assert pair.is_sharp
    assert pair.name == "street.png"


def test_a_folder_of_anything_else_is_refused(tmp_path):
    (tmp_path / "letters").mkdir()
    with pytest.raises(UsageError, match=r"no known layout.*ReLoBlur.*GoPro"):
        find_pairs(tmp_path)


@pytest.mark.parametrize("name", ["none", "file"])
def test_what_is_no_folder_is_refused(name, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="expected a folder of pictures"):
        find_pairs(tmp_path / name)


def test_an_unknown_layout_is_refused(folder):
    with pytest.raises(UsageError, match=r"'coco', expected one of synth, reloblur"):
        find_pairs(folder, layout="coco")


def test_a_mask_of_0_and_1_is_refused(tmp_path):
    """It would count as a picture without blur."""
    save(tmp_path / "mask.png", square() // 255)
    with pytest.raises(UsageError, match="no value above 1, expected 0 and 255"):
        read_true_mask(tmp_path / "mask.png", shape=square().shape)


@pytest.mark.parametrize("missing", ["blurred", "sharp", "mask"])
def test_a_missing_folder_is_named(folder, missing):
    (folder / missing).rename(folder / "elsewhere")
    with pytest.raises(UsageError, match=f"has no folder {missing};"):
        find_pairs(folder)


def test_two_pictures_of_one_name_are_refused(folder):
    one = next((folder / "blurred").iterdir())
    one.with_suffix(".jpg").write_bytes(one.read_bytes())
    with pytest.raises(UsageError, match="not the only picture of its name"):
        find_pairs(folder)


def test_an_empty_folder_is_a_misuse(folder):
    for path in (folder / "blurred").iterdir():
        path.unlink()
    with pytest.raises(UsageError, match="holds no pictures"):
        find_pairs(folder)


@pytest.mark.parametrize("part", ["sharp", "mask"])
def test_a_picture_without_its_partner_is_named(folder, part):
    (folder / part / "b.png").unlink()
    with pytest.raises(UsageError, match=r"b\.png needs exactly one"):
        find_pairs(folder)
