"""The files that are written for one picture: checked before any work, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from m2a.errors import ImageError, M2AError, UsageError
from m2a.runtime.drawing import compare_picture, motion_picture
from m2a.runtime.images import (
    Photo,
    check_before_encoding,
    check_output,
    is_as_read,
    write_encoded,
    write_mask,
    write_photo,
)
from m2a.runtime.journal import Journal
from m2a.runtime.output import encoded_output
from m2a.runtime.plan import Job, check_named, check_not_read, exists
from m2a.runtime.result import Result
from m2a.runtime.settings import Settings

__all__ = ["check_files", "write_files"]


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
        check_named(job.output)
        check_output(
            job.output, overwrite=settings.overwrite, photo=photo, quality=settings.quality
        )
    checked: dict[str, str] = {}
    for option, path in job.files.items():
        if option != "-o":
            if path.suffix.lower() != ".png":
                raise UsageError(
                    f"{option} {path}: found the suffix {path.suffix!r}, expected .png"
                )
            check_output(path, overwrite=settings.overwrite)
            check_not_read(option, path, [job.source])
        check_not_read(option, path, settings.mask_files)
        other = checked.setdefault(os.path.realpath(path), option)
        if other != option:
            raise UsageError(f"{other} and {option} name the same file, {job.files[other]}")


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
                _write_deblurred(path, job, settings, photo, result, journal)
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


def _write_deblurred(
    path: Path,
    job: Job,
    settings: Settings,
    photo: Photo,
    result: Result,
    journal: Journal | None,
) -> None:
    quality = settings.quality_for(path.suffix)
    check_before_encoding(path, overwrite=settings.overwrite, photo=photo, quality=quality)
    content = encoded_output(
        settings,
        photo,
        pixels=result.image,
        mask=result.mask,
        suffix=path.suffix,
        origin=str(path),
    )
    before = _before_replacing(job, settings, photo, journal) if job.in_place else None
    write_encoded(path, content, overwrite=settings.overwrite, before=before)


def _beside(option: str, photo: Photo, result: Result) -> Photo:
    if option == "--compare-out":
        return compare_picture(photo, result.image)
    return motion_picture(photo, result.motion)
