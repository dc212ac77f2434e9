"""Deblurring picture files: one that must succeed, or many of which some may fail.

A file is written whole or not at all. What fails leaves nothing new behind; what is interrupted
leaves whole files, which `skip_existing` keeps, and, of photos that were replaced, a `Journal`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2a.errors import ImageError, M2AError, UsageError
from m2a.runtime.deblurrer import Deblurrer, Result
from m2a.runtime.decoding import largest_file
from m2a.runtime.drawing import compare_picture, motion_picture
from m2a.runtime.encoding import check_encodable, takes_quality
from m2a.runtime.images import (
    MAX_PIXELS,
    Photo,
    check_output,
    is_as_read,
    read_mask,
    read_photo,
    write_mask,
    write_photo,
)
from m2a.runtime.journal import Journal
from m2a.runtime.plan import Job, Plan, check_not_read, exists

__all__ = [
    "DONE",
    "FAILED",
    "FULL",
    "SKIPPED",
    "Outcome",
    "Settings",
    "check_files",
    "check_mask",
    "check_plan",
    "deblur_files",
    "deblurred",
    "given_mask",
    "mask_files",
    "outcome_of",
    "reason_of",
    "write_files",
]

FULL = "full"
"""The word for a mask of all pixels."""

DONE, SKIPPED, FAILED = "done", "skipped", "failed"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How files are read and written; what the network does is the `Deblurrer`'s.

    Attributes:
        mask: the pixels to restore: a picture of them, `FULL` for all, None to predict them.
        quality: 1 to 100, of deblurred pictures in formats that have one; None as the source.
        max_pixels: the largest H·W of a photo that is accepted.
        overwrite: replace files that exist.
        skip_existing: keep files that exist and write only those that are missing; a picture of
            which none is missing is not read.
        strip_metadata: leave EXIF, XMP and IPTC out of the deblurred picture. Its colour profile
            and resolution stay, without which it would look otherwise.

    Raises:
        UsageError: files that exist are to be both replaced and kept; a number is out of range.
    """

    mask: str | None = None
    quality: int | None = None
    max_pixels: int = MAX_PIXELS
    overwrite: bool = False
    skip_existing: bool = False
    strip_metadata: bool = False

    def __post_init__(self) -> None:
        if self.overwrite and self.skip_existing:
            raise UsageError(
                "found both --overwrite and --skip-existing, expected at most one: "
                "files that exist are either replaced or kept"
            )
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise UsageError(f"--quality: found {self.quality}, expected 1 to 100")
        if self.max_pixels < 1:
            raise UsageError(f"--max-pixels: found {self.max_pixels}, expected at least 1")

    @property
    def mask_files(self) -> tuple[Path, ...]:
        """The picture of the mask, if there is one."""
        return mask_files(self.mask)

    def quality_for(self, suffix: str) -> int | None:
        """The quality for a format that has one; None otherwise."""
        return self.quality if takes_quality(suffix) else None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one picture.

    Attributes:
        source: the picture to read.
        output: the deblurred picture to write; None where the source is a folder that could not
            be looked into.
        status: `DONE`, `SKIPPED` because all of its files exist, or `FAILED`.
        reason: why it failed, with the name of the source; None if it did not.
        replaced: whether it is skipped because an interrupted run had replaced it already.
        coverage: restored pixels / all pixels, 0 to 1; None unless it is done.
        backend: who computed; None unless it is done.
        seconds: wall time per stage of the computation; empty unless it is done.
    """

    source: Path
    output: Path | None
    status: str
    reason: str | None = None
    replaced: bool = False
    coverage: float | None = None
    backend: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


def deblur_files(
    jobs: Iterable[Job],
    settings: Settings,
    open_deblurrer: Callable[[], Deblurrer],
    *,
    journal: Journal | None = None,
) -> Iterator[Outcome]:
    """Deblurs picture after picture; one that fails does not stop those after it.

    Args:
        jobs: the pictures, of which no two write the same file. Folders are created.
        settings: how files are read and written.
        open_deblurrer: called once, when the first picture is to be computed.
        journal: of an interrupted run: photos that stand in it were replaced by it and are
            skipped; those that are replaced now are noted. The caller removes it.

    Yields:
        An outcome per job, in their order, when its files are written.

    Raises:
        M2AError: what `open_deblurrer` raises.
    """
    deblurrer = None
    for job in jobs:
        left = job.without_existing() if settings.skip_existing else job
        if not left.files:
            yield Outcome(source=job.source, output=job.output, status=SKIPPED)
            continue
        kept = journal if job.in_place else None
        limit = largest_file(settings.max_pixels)
        if kept is not None and kept.noted_before(job.source, limit=limit):
            yield Outcome(source=job.source, output=job.output, status=SKIPPED, replaced=True)
            continue
        if deblurrer is None:
            deblurrer = open_deblurrer()
        try:
            result = _deblur_file(left, settings, deblurrer, kept)
        except (M2AError, OSError, MemoryError) as error:
            yield Outcome(
                source=job.source,
                output=job.output,
                status=FAILED,
                reason=reason_of(job.source, error),
            )
            continue
        yield outcome_of(job, result)


def outcome_of(job: Job, result: Result) -> Outcome:
    """The outcome of a picture that is done."""
    return Outcome(
        source=job.source,
        output=job.output,
        status=DONE,
        coverage=result.coverage,
        backend=result.backend,
        seconds=result.seconds,
    )


def _deblur_file(
    job: Job, settings: Settings, deblurrer: Deblurrer, journal: Journal | None
) -> Result:
    photo = read_photo(job.source, max_pixels=settings.max_pixels)
    if job.output is not None:
        check_encodable(suffix=job.output.suffix, photo=photo, origin=str(job.output))
    result = deblurrer(photo.pixels, mask=given_mask(settings.mask, photo))
    for path in job.files.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    write_files(job, settings, photo, result, journal=journal)
    return result


def reason_of(source: Path | str, error: M2AError | OSError | MemoryError) -> str:
    """Why a picture failed, with its name."""
    reason = str(error)
    if isinstance(error, MemoryError):
        reason = "out of memory; take a smaller picture or a smaller mask"
    elif isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        reason = f"{place}{error.strerror or error}"
    return reason if str(source) in reason else f"{source}: {reason}"


def check_plan(plan: Plan, settings: Settings) -> None:
    """Refuses a plan that the settings do not allow, before any work is done.

    Raises:
        UsageError: files exist and are neither to be replaced nor kept, one mask is given for
            several pictures or would be written over, or a quality where no output has one.
    """
    check_mask(settings.mask, photos=len(plan.jobs))
    for job in plan.jobs:
        for option, path in job.files.items():
            check_not_read(option, path, settings.mask_files)
    if settings.quality is not None and not any(
        job.output is not None and takes_quality(job.output.suffix) for job in plan.jobs
    ):
        raise UsageError(
            f"--quality: found {settings.quality} and outputs that are all lossless, expected one "
            "that is JPEG, WebP or AVIF"
        )
    if settings.overwrite or settings.skip_existing:
        return
    existing = plan.existing
    if existing:
        raise UsageError(
            f"{existing[0]}: found {len(existing)} of the files to write there already, expected "
            "new names; give --skip-existing to keep them or --overwrite to replace them"
        )


def check_mask(mask: str | None, *, photos: int) -> None:
    """Refuses the picture of a mask for several photos.

    Args:
        mask: as in `Settings`.
        photos: how many there are.

    Raises:
        UsageError: one picture is given for several photos.
    """
    if mask not in (None, FULL) and photos > 1:
        raise UsageError(
            f"--mask-in: found the picture {mask} for {photos} photos, "
            f"expected {FULL!r}, or one photo"
        )


def check_files(job: Job, settings: Settings, *, photo: Photo | None = None) -> None:
    """Refuses files that `write_files` would refuse, before any work is done.

    Args:
        job: the files to write.
        settings: whether files that exist may be replaced.
        photo: the photograph, if it is known already: its alpha and size must fit the output.

    Raises:
        UsageError: as `check_output`; a picture beside the output is not a PNG file; two files
            are one, or one would replace what is read. Only the deblurred picture may replace
            the source.
        ImageError: the file system refuses a name.
    """
    if job.output is not None:
        check_output(
            job.output, overwrite=settings.overwrite, photo=photo, quality=settings.quality
        )
    checked: dict[str, str] = {}
    for option, path in job.files.items():
        if option != "-o":
            check_output(path, overwrite=settings.overwrite)
            if path.suffix.lower() != ".png":
                raise UsageError(f"{path}: found the suffix {path.suffix!r}, expected .png")
            check_not_read(option, path, [job.source])
        check_not_read(option, path, settings.mask_files)
        other = checked.setdefault(os.path.realpath(path), option)
        if other != option:
            raise UsageError(f"{other} and {option} name the same file, {job.files[other]}")


def mask_files(mask: str | None) -> tuple[Path, ...]:
    """The picture that a mask, as in `Settings`, is read from, if it is one."""
    return () if mask is None or mask == FULL else (Path(mask),)


def given_mask(mask: str | None, photo: Photo) -> NDArray[np.bool_] | None:
    """The mask [H, W] that the settings give for a photo, or None if it is to be predicted.

    Raises:
        ImageError, UsageError: as `read_mask`.
    """
    shape = (photo.pixels.shape[0], photo.pixels.shape[1])
    if mask is None:
        return None
    if mask == FULL:
        return np.ones(shape, bool)
    return read_mask(Path(mask), shape=shape)


def write_files(
    job: Job, settings: Settings, photo: Photo, result: Result, *, journal: Journal | None = None
) -> None:
    """Writes what a job asks for; if one file fails, those that were new are removed.

    The deblurred picture comes last: where it replaces the photo, nothing else can be made of that
    any more.

    Args:
        job: the files to write; their folders must exist.
        settings: whether files that exist may be replaced, and metadata left out.
        photo: the photograph as it was read.
        result: what the `Deblurrer` made of its pixels.
        journal: notes the deblurred picture.

    Raises:
        UsageError, ImageError: as `write_photo`; or the source, which is to be replaced, is no
            longer what was read.
    """
    new: list[Path] = []
    try:
        for option, path in sorted(job.files.items(), key=lambda item: item[0] == "-o"):
            existed = exists(path)
            if option == "--mask-out":
                write_mask(path, result.mask, overwrite=settings.overwrite)
            elif option == "-o":
                write_photo(
                    path,
                    deblurred(settings, photo, result),
                    overwrite=settings.overwrite,
                    quality=settings.quality_for(path.suffix),
                    before=_before_replacing(job, settings, photo, journal)
                    if job.in_place
                    else None,
                )
            else:
                picture = _beside(option, photo, result)
                write_photo(path, picture, overwrite=settings.overwrite)
            if not existed:
                new.append(path)
    except (M2AError, OSError, MemoryError):
        for path in new:
            path.unlink(missing_ok=True)
        raise


def _before_replacing(
    job: Job, settings: Settings, photo: Photo, journal: Journal | None
) -> Callable[[bytes], None]:
    """What is to be done with the new content just before it takes the place of the photo."""

    def check_and_note(content: bytes) -> None:
        if not is_as_read(job.source, photo, max_pixels=settings.max_pixels):
            raise ImageError(
                f"{job.source}: was changed while it was deblurred, so it is left as it is now; "
                "deblur it again"
            )
        if journal is not None:
            journal.note(content)

    return check_and_note


def deblurred(settings: Settings, photo: Photo, result: Result) -> Photo:
    """The deblurred picture with the metadata that the settings leave it."""
    metadata = {} if settings.strip_metadata else photo.metadata
    return replace(photo, pixels=result.image, metadata=metadata)


def _beside(option: str, photo: Photo, result: Result) -> Photo:
    if option == "--compare-out":
        return compare_picture(photo, result.image)
    return motion_picture(photo, result.motion)
