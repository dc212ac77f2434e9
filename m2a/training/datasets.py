"""Photographs of real blur with their sharp counterparts: ReLoBlur and GoPro.

Both are read in the folder layout in which they are distributed. Nothing is guessed: a picture
that is missing, has no partner or lies where the layout has no place for it is an error.

ReLoBlur (Li et al., "Real-World Deep Local Motion Deblurring", AAAI 2023), 2010 training and 395
test pairs of 2152x1436 pixels, blurred in places; for academic purposes only:

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
Deblurring", CVPR 2017), 2103 training and 1111 test pairs of 1280x720 pixels, blurred all over:

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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2a.errors import TrainingError, UsageError
from m2a.runtime.images import read_mask, read_photo

SPLITS = ("train", "test")

MASKED_SHARE = 0.5
"""The share of crops aimed at a masked pixel: `force_blur_region_p` in LBAG's `LBAG.yaml`."""

_RELOBLUR_PICTURE = "SCENE/SEQUENCE/NUMBER_blur.png or SCENE/SEQUENCE/NUMBER_sharp.png"
_RELOBLUR_MASK = "SCENE/SEQUENCE/NUMBER.png"
_GOPRO_KINDS = ("blur", "blur_gamma", "sharp")
_GOPRO_PICTURE = f"SEQUENCE/FOLDER/NUMBER.png with FOLDER one of {', '.join(_GOPRO_KINDS)}"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The files of one photograph of a data set.

    Attributes:
        name: unique within the split, such as "s01/00/03" or "GOPR0372_07_00/000047".
        blurred: the blurred picture.
        sharp: the same scene without blur.
        mask: where it is blurred; None: all over.
    """

    name: str
    blurred: Path
    sharp: Path
    mask: Path | None

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""
        return tuple(path for path in (self.blurred, self.sharp, self.mask) if path is not None)


@dataclass(frozen=True, kw_only=True, eq=False)
class PairPixels:
    """A pair in memory, whole or a crop of it.

    Attributes:
        name: of the `Pair`.
        blurred: uint8 [H, W, 3], RGB as encoded in the file.
        sharp: uint8 [H, W, 3], likewise.
        mask: bool [H, W], true where `blurred` is blurred.

    Raises:
        ValueError: shapes or dtypes are not as stated.
    """

    name: str
    blurred: NDArray[np.uint8]
    sharp: NDArray[np.uint8]
    mask: NDArray[np.bool_]

    def __post_init__(self) -> None:
        size = self.mask.shape
        for picture in (self.blurred, self.sharp):
            if picture.dtype != np.uint8 or picture.shape != (*size, 3):
                raise ValueError(
                    f"pair {self.name}: found {picture.dtype} {picture.shape}, "
                    f"expected uint8 {(*size, 3)} as the mask has"
                )
        if self.mask.dtype != np.bool_ or self.mask.size == 0:
            raise ValueError(
                f"pair {self.name}: found a mask {self.mask.dtype} {size}, "
                "expected a non-empty bool [H, W]"
            )


def find_reloblur(folder: Path, *, split: str) -> list[Pair]:
    """The pairs of ReLoBlur, original or resized, without opening a picture.

    Args:
        folder: what holds `dataset` and `masks`. Hidden files and files without the suffix .png
            are passed over.
        split: "train" or "test".

    Returns:
        At least one pair, sorted by name, each with a mask.

    Raises:
        TrainingError: a folder of the layout is missing or holds no pictures; a blurred picture, a
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
        At least one pair, sorted by name, without masks: the camera moved.

    Raises:
        TrainingError: the folder of the split is missing or holds no pictures; a blurred or a sharp
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


def read_pair(pair: Pair) -> PairPixels:
    """Reads the pictures of a pair.

    A mask is true from 128 of 255, as everywhere in m2a (`read_mask`): half of the range is where
    the edge of a mask that was resized with grey levels lies. LBAG takes every value above 0, which
    is the same for masks of 0 and 255 and wider for others. A mask without any blur is valid; one
    that is neither black nor anywhere above the threshold, such as one of 0 and 1, is refused.

    Args:
        pair: of `find_reloblur` or `find_gopro`.

    Returns:
        The whole pictures; the mask is all true where the pair has none.

    Raises:
        TrainingError: a picture is not RGB of 8 bits; the two pictures or the mask differ in
            size; the mask's values are all below the threshold, but not 0.
        ImageError: a file is missing, damaged or no picture.
    """
    blurred, sharp = _read_rgb(pair.blurred), _read_rgb(pair.sharp)
    if sharp.shape != blurred.shape:
        raise TrainingError(
            f"{pair.sharp}: found {_size(sharp)} pixels, expected {_size(blurred)} as "
            f"{pair.blurred} has; download both files again."
        )
    if pair.mask is None:
        mask = np.ones(blurred.shape[:2], np.bool_)
    else:
        mask = _read_blur_mask(pair.mask, blurred)
    return PairPixels(name=pair.name, blurred=blurred, sharp=sharp, mask=mask)


def draw_pair_crop(
    rng: np.random.Generator, pair: PairPixels, size: int, *, masked_share: float = MASKED_SHARE
) -> PairPixels:
    """Draws a square crop, which is blurred more often than chance would have it.

    Blur covers a small part of ReLoBlur, so that crops drawn evenly would mostly be sharp. With the
    probability `masked_share` a crop is therefore centred on a masked pixel, all being equally
    likely, and moved into the picture where it sticks out, which keeps that pixel in it. All
    others are drawn evenly, as are all crops of a picture that is masked nowhere or everywhere.

    Args:
        rng: source of randomness; the crop depends on nothing else.
        pair: what to cut from; not changed.
        size: S, rows and columns of the crop.
        masked_share: 0 to 1; the least probability of a crop with a masked pixel, if there is one.

    Returns:
        Copies of blurred [S, S, 3], sharp [S, S, 3] and mask [S, S].

    Raises:
        TrainingError: the picture is smaller than the crop.
        ValueError: `size` < 1, or `masked_share` is not within 0 to 1.
    """
    if size < 1 or not 0 <= masked_share <= 1:
        raise ValueError(
            f"found size {size} and masked_share {masked_share}, expected 1 or more and 0 to 1"
        )
    height, width = pair.mask.shape
    if min(height, width) < size:
        raise TrainingError(
            f"pair {pair.name}: found {_size(pair.blurred)} pixels, expected at least "
            f"{size}x{size}, the size of a crop; choose smaller crops or larger pictures."
        )
    masked: NDArray[np.intp] = np.empty(0, np.intp)
    # Aiming within a full mask would only gather crops at the borders, where they are moved in.
    if rng.random() < masked_share and not pair.mask.all():
        masked = np.flatnonzero(pair.mask)
    if masked.size:
        y, x = divmod(int(rng.choice(masked)), width)
        top = min(max(y - size // 2, 0), height - size)
        left = min(max(x - size // 2, 0), width - size)
    else:
        top = int(rng.integers(height - size + 1))
        left = int(rng.integers(width - size + 1))
    window = np.s_[top : top + size, left : left + size]
    # Copies: a view would keep the whole picture in memory.
    return PairPixels(
        name=pair.name,
        blurred=pair.blurred[window].copy(),
        sharp=pair.sharp[window].copy(),
        mask=pair.mask[window].copy(),
    )


def _split_folder(parent: Path, split: str) -> Path:
    if split not in SPLITS:
        raise TrainingError(f"found the split {split!r}, expected one of {', '.join(SPLITS)}.")
    folder = parent / split
    if not folder.is_dir():
        there = sorted(p.name for p in _visible(parent)) if parent.is_dir() else []
        raise TrainingError(
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
        raise TrainingError(
            f"{path} is missing; found {partner}, expected all {len(one.files)} files of "
            f"{one.name}; complete the download or take the others of it away{others}."
        )
    return pairs


def _misplaced(path: Path, folder: Path, expected: str) -> TrainingError:
    return TrainingError(
        f"{path} has no place in the data set; expected {expected} in {folder}; take it away or "
        "name the folder that holds the data set as it is distributed."
    )


def _no_pictures(folder: Path, expected: str) -> TrainingError:
    return TrainingError(f"{folder} holds no pictures; expected {expected}; complete the download.")


def _read_rgb(path: Path) -> NDArray[np.uint8]:
    pixels = read_photo(path).pixels
    if pixels.dtype != np.uint8 or pixels.shape[2] != 3:
        raise TrainingError(
            f"{path}: found {pixels.shape[2]} channels of {pixels.dtype}, expected 3 of uint8; "
            "download the file again."
        )
    return pixels.astype(np.uint8, copy=False)


def _read_blur_mask(path: Path, blurred: NDArray[np.uint8]) -> NDArray[np.bool_]:
    try:
        mask = read_mask(path, shape=(blurred.shape[0], blurred.shape[1]))
    except UsageError as error:
        raise TrainingError(f"{error}; use masks and pictures of one release.") from error
    if not mask.any():
        values = read_photo(path).pixels
        if values.any():
            raise TrainingError(
                f"{path}: found no value above {values.max()}, expected 0 and "
                f"{np.iinfo(values.dtype).max}; rescale the masks to the full range."
            )
    return mask


def _size(picture: NDArray[np.uint8]) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]}"
