"""Which pairs a folder holds, in whatever layout it has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from m2a.errors import UsageError
from m2a.evaluation.datasets import find_gopro, find_reloblur
from m2a.evaluation.pairs import Pair
from m2a.runtime.search import Search

__all__ = ["FOLDERS", "LAYOUTS", "find_pairs", "known_triples", "recognise"]

FOLDERS = ("blurred", "sharp", "mask")
"""Of what `m2a synth` writes, those that are needed."""

LAYOUTS = ("synth", "reloblur", "gopro", "sharp")
"""What `m2a synth` writes; the two data sets as they are distributed; sharp photographs alone."""


def recognise(folder: Path) -> str:
    """Tells the layout of a folder by the folders in it; `sharp` is never guessed.

    Raises:
        UsageError: it has none of them.
    """
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise UsageError(f"{folder}: found {found}, expected a folder of pictures with their truth")
    names = {path.name for path in folder.iterdir() if path.is_dir()}
    if names & set(FOLDERS):
        return "synth"
    if names & {"dataset", "masks"}:
        return "reloblur"
    if names & {"train", "test"}:
        return "gopro"
    if any(Search(recursive=False).pictures_in(folder)):
        raise UsageError(
            f"{folder}: found pictures alone, expected their truth beside them, in "
            f"{', '.join(FOLDERS)}; if they are all sharp, --layout sharp measures what is "
            "wrongly found in them"
        )
    raise UsageError(
        f"{folder}: found no known layout, expected {', '.join(FOLDERS)} (as `m2a synth` writes "
        "them), dataset and masks (ReLoBlur), or train and test (GoPro)"
    )


def find_pairs(
    folder: Path, *, layout: str | None = None, split: str = "test", gamma: bool = False
) -> list[Pair]:
    """Finds the pairs of a folder, without opening a picture.

    Args:
        folder: what `m2a synth` wrote, or anything of that form; ReLoBlur or GoPro as they are
            distributed; or sharp photographs.
        layout: one of `LAYOUTS`; None recognises all but sharp photographs alone.
        split: "train" or "test", of ReLoBlur and GoPro.
        gamma: whether to take GoPro's pictures of `blur_gamma`.

    Returns:
        At least one pair, sorted by name.

    Raises:
        UsageError: the folder is not of that layout, or of none.
    """
    layout = recognise(folder) if layout is None else layout
    if layout == "synth":
        return [_with_annotations(*files) for files in known_triples(folder)]
    if layout == "reloblur":
        return find_reloblur(folder, split=split)
    if layout == "gopro":
        return find_gopro(folder, split=split, gamma=gamma)
    if layout == "sharp":
        search = Search(recursive=False)
        return [
            Pair(name=path.name, blurred=path, sharp=path)
            for path, _ in search.sources(str(folder))
        ]
    raise UsageError(f"found the layout {layout!r}, expected one of {', '.join(LAYOUTS)}")


def known_triples(folder: Path) -> Iterator[tuple[Path, Path, Path]]:
    """The blurred, the sharp and the mask's picture of each name in a folder of `m2a synth`.

    Raises:
        UsageError: the folder is not of this form.
    """
    missing = [name for name in FOLDERS if not (folder / name).is_dir()]
    if missing:
        raise UsageError(
            f"{folder} has no folder {', '.join(missing)}; expected {', '.join(FOLDERS)} with "
            "pictures of the same names: `m2a synth PHOTOS -o DIR` writes them"
        )
    pictures = sorted(_visible(folder / "blurred"))
    if not pictures:
        raise UsageError(f"{folder / 'blurred'} holds no pictures")
    stems = Counter(path.stem for path in pictures)
    for blurred in pictures:
        if stems[blurred.stem] > 1:
            raise UsageError(
                f"{blurred} is not the only picture of its name in {folder / 'blurred'}; expected "
                "one of each name, whatever its suffix"
            )
        partners = [
            [path for path in (folder / name).iterdir() if path.stem == blurred.stem]
            for name in FOLDERS[1:]
        ]
        if any(len(found) != 1 for found in partners):
            raise UsageError(
                f"{blurred} needs exactly one picture of its name in each of "
                f"{', '.join(FOLDERS[1:])}"
            )
        yield blurred, partners[0][0], partners[1][0]


def _visible(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _with_annotations(blurred: Path, sharp: Path, mask: Path) -> Pair:
    visible = mask.parent.parent / "visible" / mask.name
    motion = mask.parent.parent / "motion" / f"{blurred.stem}.npy"
    return Pair(
        name=blurred.stem,
        blurred=blurred,
        sharp=sharp,
        mask=mask,
        visible=visible if visible.exists() else None,
        motion=motion if motion.exists() else None,
    )
