"""Where the photographs of real blur and their sharp counterparts lie: ReLoBlur and GoPro.

Both are read in the folder layout in which they are distributed. Nothing is guessed: a picture
that is missing, has no partner or lies where the layout has no place for it is an error.

ReLoBlur (Li et al., "Real-World Deep Local Motion Deblurring", AAAI 2023), 2010 training and 395
test pairs of 2152x1436 pixels, blurred in places; for academic purposes only::

    FOLDER/
        dataset/
            train/s01/00/00_blur.png, 00_sharp.png, 01_blur.png, ...
            test/scene1/00/...
        masks/
            train/s01/00/00.png, 01.png, ...
            test/scene1/00/...

Source: the repository LeiaLi/ReLoBlur, `README.md` (the tree) and `dataset.py` (three levels below
the split, the endings `_blur` and `_sharp`, the mask's path from that of the sharp picture).
Known defects of the distribution, from the issues there: masks of `train/s09` were empty or damaged
files (issues 4, 5 and 7; replaced later), and in a folder `mask_v1` of masks `train/s04/00/00.png`
is missing (issue 22). Both are errors here: a missing file when the pairs are looked for, a damaged
one when it is read. `README.md` also names newer masks, of LMD-ViT (Li et al., ICLR 2024);
whichever are used, their folder must be called `masks`.

GoPro, GOPRO_Large (Nah et al., "Deep Multi-Scale Convolutional Neural Network for Dynamic Scene
Deblurring", CVPR 2017), 2103 training and 1111 test pairs of 1280x720 pixels, blurred all over::

    FOLDER/
        train/GOPR0372_07_00/
            blur/000047.png, 000048.png, ...        mean of the frames as they are
            blur_gamma/000047.png, 000048.png, ...  mean of the frames with gamma 2.2 undone
            sharp/000047.png, 000048.png, ...
        test/GOPR0384_11_00/...

Source: the repositories SeungjunNah/DeepDeblur_release, `README.md` and `code/data.lua` (the tree)
and issues 13 and 60 (the two kinds of blur; the paper's results are for `blur_gamma`), and
SeungjunNah/DeepDeblur-PyTorch, `src/data/gopro_large.py`. The rearranged copies with the folders
`input` and `target`, which NAFNet describes in `docs/GoPro.md`, are not read.

Neither data set was at hand when this was written; it could not be confirmed that the resized
ReLoBlur (538x359) and the masks of LMD-ViT have the tree of the original, that all masks hold 0 and
255 only, and, beyond single files quoted in the issues of DeepDeblur_release, that the pictures of
a GoPro pair always have the same number, as the authors' code joins them by their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from m2a.errors import UsageError
from m2a.evaluation.pairs import Pair

__all__ = ["SPLITS", "find_gopro", "find_reloblur"]

SPLITS = ("train", "test")

_RELOBLUR_PICTURE = "SCENE/SEQUENCE/NUMBER_blur.png or SCENE/SEQUENCE/NUMBER_sharp.png"
_RELOBLUR_MASK = "SCENE/SEQUENCE/NUMBER.png"
_GOPRO_KINDS = ("blur", "blur_gamma", "sharp")
_GOPRO_PICTURE = f"SEQUENCE/FOLDER/NUMBER.png with FOLDER one of {', '.join(_GOPRO_KINDS)}"


def find_reloblur(folder: Path, *, split: str) -> list[Pair]:
    """The pairs of ReLoBlur, original or resized, without opening a picture.

    Args:
        folder: what holds `dataset` and `masks`. Hidden files and files without the suffix .png
            are passed over.
        split: "train" or "test".

    Returns:
        At least one pair, sorted by name, each with a mask.

    Raises:
        UsageError: a folder of the layout is missing or holds no pictures; a blurred picture, a
            sharp one or a mask lacks the two others; a .png file is not part of the layout.
    """
    pictures = _split_folder(folder / "dataset", split)
    masks = _split_folder(folder / "masks", split)
    found = _pngs(pictures)
    names = set()
    for path in found:
        place = path.relative_to(pictures)
        number, _, kind = place.stem.rpartition("_")
        if len(place.parts) != 3 or not number or kind not in ("blur", "sharp"):
            raise _misplaced(path, pictures, _RELOBLUR_PICTURE)
        names.add(place.with_name(number).as_posix())
    if not names:
        raise _no_pictures(pictures, _RELOBLUR_PICTURE)
    found_masks = _pngs(masks)
    for path in found_masks:
        place = path.relative_to(masks)
        if len(place.parts) != 3:
            raise _misplaced(path, masks, _RELOBLUR_MASK)
        names.add(place.with_suffix("").as_posix())
    return _complete_pairs(
        names,
        [*found, *found_masks],
        lambda name: Pair(
            name=name,
            blurred=pictures / f"{name}_blur.png",
            sharp=pictures / f"{name}_sharp.png",
            mask=masks / f"{name}.png",
        ),
    )


def find_gopro(folder: Path, *, split: str, gamma: bool = False) -> list[Pair]:
    """The pairs of GOPRO_Large, without opening a picture.

    Args:
        folder: what holds `train` and `test`. Hidden files and files without the suffix .png are
            passed over.
        split: "train" or "test".
        gamma: whether to take the blurred pictures of `blur_gamma` instead of those of `blur`. The
            other of the two may be missing or incomplete.

    Returns:
        At least one pair, sorted by name. None has a mask, since the camera moved.

    Raises:
        UsageError: the folder of the split is missing or holds no pictures; a blurred or a sharp
            picture lacks the other; a .png file is not part of the layout.
    """
    sequences = _split_folder(folder, split)
    blurred = "blur_gamma" if gamma else "blur"
    found = _pngs(sequences)
    names = set()
    for path in found:
        place = path.relative_to(sequences)
        if len(place.parts) != 3 or place.parts[1] not in _GOPRO_KINDS:
            raise _misplaced(path, sequences, _GOPRO_PICTURE)
        if place.parts[1] in (blurred, "sharp"):
            names.add(f"{place.parts[0]}/{place.stem}")
    if not names:
        raise _no_pictures(sequences, _GOPRO_PICTURE)

    def pair(name: str) -> Pair:
        sequence, number = name.split("/")
        return Pair(
            name=name,
            blurred=sequences / sequence / blurred / f"{number}.png",
            sharp=sequences / sequence / "sharp" / f"{number}.png",
            mask=None,
        )

    return _complete_pairs(names, found, pair)


def _split_folder(parent: Path, split: str) -> Path:
    if split not in SPLITS:
        raise UsageError(f"found the split {split!r}, expected one of {', '.join(SPLITS)}.")
    folder = parent / split
    if not folder.is_dir():
        there = sorted(p.name for p in _visible(parent)) if parent.is_dir() else []
        raise UsageError(
            f"{folder} is not a folder; found {', '.join(there[:8]) or 'nothing'} in {parent}, "
            f"expected {' and '.join(SPLITS)}; name the folder that holds the data set as it is "
            "distributed."
        )
    return folder


def _visible(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if not path.name.startswith("."))


def _pngs(folder: Path) -> list[Path]:
    # Not rglob, which passes over linked folders and, silently, over unreadable ones.
    found = []
    for path in _visible(folder):
        if path.is_dir():
            found += _pngs(path)
        elif path.suffix == ".png":
            found.append(path)
    return found


def _complete_pairs(
    names: set[str], found: Sequence[Path], pair: Callable[[str], Pair]
) -> list[Pair]:
    pairs = [pair(name) for name in sorted(names)]
    present = set(found)
    missing = [(one, path) for one in pairs for path in one.files if path not in present]
    if missing:
        one, path = missing[0]
        partner = next(other for other in one.files if other in present)
        others = f" ({len(missing) - 1} more are missing likewise)" if len(missing) > 1 else ""
        raise UsageError(
            f"{path} is missing; found {partner}, expected all {len(one.files)} files of "
            f"{one.name}; complete the download or take the others of it away{others}."
        )
    return pairs


def _misplaced(path: Path, folder: Path, expected: str) -> UsageError:
    return UsageError(
        f"{path} has no place in the data set; expected {expected} in {folder}; take it away or "
        "name the folder that holds the data set as it is distributed."
    )


def _no_pictures(folder: Path, expected: str) -> UsageError:
    return UsageError(f"{folder} holds no pictures; expected {expected}; complete the download.")
