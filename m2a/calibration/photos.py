"""The photos that calibrate a variant and, others, that judge it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from m2a.errors import ImageError, UsageError
from m2a.evaluation.evaluate import FOLDERS, known_triples
from m2a.runtime.images import read_photo
from m2a.runtime.pixels import check_pixels
from m2a.runtime.search import Search

HELD_OUT = 0.3
"""Share of a folder's photos that judge instead of calibrating."""

NEEDED = (
    "Calibration needs real photos with motion blur, like those that will be deblurred: ten or "
    "more of several scenes (a folder of `m2a synth` serves too); noise would give ranges that no "
    "photo has"
)


@dataclass(frozen=True, kw_only=True)
class Photo:
    """A photo to calibrate or to judge with.

    Attributes:
        path: of the blurred picture.
        sha256: of its file.
        sharp: the sharp truth; None where it is not known.
        mask: the true mask; None likewise.
    """

    path: Path
    sha256: str
    sharp: Path | None = None
    mask: Path | None = None


@dataclass(frozen=True, kw_only=True)
class PhotoSets:
    """Which photos calibrate and which judge; no picture is in both.

    Attributes:
        calibrating: not empty.
        judging: not empty.
        seed: of the split; None where the photos that judge were given apart.
    """

    calibrating: tuple[Photo, ...]
    judging: tuple[Photo, ...]
    seed: int | None = None


def choose_photos(folder: Path, *, judging: Path | None = None, seed: int = 0) -> PhotoSets:
    """Finds the photos of a folder and splits them.

    Args:
        folder: of blurred photos, or one that `m2a synth` wrote.
        judging: a folder of others that judge; None holds back a share of the first.
        seed: of the split.

    Returns:
        The two sets, in the order of their names. Copies of one picture count once.

    Raises:
        UsageError: a folder holds no photos, or too few to hold one back.
    """
    found = _distinct(find_photos(folder))
    if judging is not None:
        known = {photo.sha256 for photo in found}
        others = [photo for photo in _distinct(find_photos(judging)) if photo.sha256 not in known]
        if not others:
            raise UsageError(
                f"{judging}: found no photo that is not in {folder} too, expected others: what "
                "calibrated cannot judge"
            )
        return PhotoSets(calibrating=tuple(found), judging=tuple(others))
    if len(found) < 2:
        raise UsageError(
            f"{folder}: found one photo, expected at least two, for what calibrated cannot judge; "
            f"add some, or name others with --gate-photos. {NEEDED}"
        )
    count = max(1, round(HELD_OUT * len(found)))
    held = set(random.Random(seed).sample(range(len(found)), count))
    return PhotoSets(
        calibrating=tuple(photo for n, photo in enumerate(found) if n not in held),
        judging=tuple(photo for n, photo in enumerate(found) if n in held),
        seed=seed,
    )


def find_photos(folder: Path) -> list[Photo]:
    """The photos of a folder; of one that `m2a synth` wrote the blurred ones, with their truth.

    Raises:
        UsageError: it is no folder, or holds no photos.
        ImageError: one cannot be read.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: found no folder of photos. {NEEDED}")
    if all((folder / name).is_dir() for name in FOLDERS):
        return [
            Photo(path=blurred, sha256=_sha256(blurred), sharp=sharp, mask=mask)
            for blurred, sharp, mask in known_triples(folder)
        ]
    paths = list(Search(recursive=False).pictures_in(folder))
    if not paths:
        raise UsageError(f"{folder}: found no photos. {NEEDED}")
    return [Photo(path=path, sha256=_sha256(path)) for path in paths]


def check_readable(photos: PhotoSets) -> None:
    """Refuses photos that cannot be read, or not deblurred: far faster than finding them later.

    Raises:
        ImageError: of the first such one.
    """
    for photo in (*photos.calibrating, *photos.judging):
        check_pixels(read_photo(photo.path).pixels)


def judged_on(photos: PhotoSets) -> dict[str, str | int | None]:
    """What tells the photos that judged, for a record: their digest and the seed of the split."""
    return {"photos_sha256": digest_of(photos.judging), "seed": photos.seed}


def digest_of(photos: Sequence[Photo]) -> str:
    """A SHA-256 over the hashes of photos, in hexadecimal."""
    return hashlib.sha256("\n".join(photo.sha256 for photo in photos).encode()).hexdigest()


def no_blur_in(photos: Sequence[Photo], threshold: float) -> UsageError:
    """The error of photos that calibrate and in none of which blur is found."""
    return UsageError(
        f"no motion blur was found in any of {len(photos)} photos at the threshold {threshold:g}, "
        f"so that there is nothing to calibrate. {NEEDED}"
    )


def _distinct(photos: Sequence[Photo]) -> list[Photo]:
    return list({photo.sha256: photo for photo in reversed(photos)}.values())[::-1]


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
