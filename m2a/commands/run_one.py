"""`m2a run` on one picture, each end of which may be a stream; what fails is raised."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from m2a.commands.opening import Opening
from m2a.errors import ImageError, UsageError
from m2a.runtime.batch import given_mask, outcome_of
from m2a.runtime.decoding import decode_photo, largest_file
from m2a.runtime.encoding import check_encodable, suffix_of
from m2a.runtime.images import read_photo
from m2a.runtime.outcomes import SKIPPED, Outcome
from m2a.runtime.output import encoded_output, is_copied
from m2a.runtime.photo import Photo
from m2a.runtime.plan import STREAM, Job
from m2a.runtime.settings import Settings
from m2a.runtime.stopwatch import Stopwatch
from m2a.runtime.writing import check_files, write_files

__all__ = ["run_one"]


def run_one(
    image: str,
    output: str,
    pictures: Mapping[str, Path],
    suffix: str | None,
    settings: Settings,
    opening: Opening,
) -> Outcome:
    """Deblurs one picture.

    Args:
        image: the file to read, or `STREAM`.
        output: the file to write, or `STREAM`.
        pictures: what is wanted beside the output, and the files to write.
        suffix: of the format on standard output; None for the source's.
        settings: how files are read and written.
        opening: the bundle, which is opened when the photo has been read.

    Raises:
        M2AError: it fails; nothing is written then.
    """
    to_stream = output == STREAM
    wanted = Job(source=Path(image), output=None if to_stream else Path(output), pictures=pictures)
    job = wanted.without_existing() if settings.skip_existing else wanted
    if not job.files and not to_stream:
        return Outcome(source=job.source, output=wanted.output, status=SKIPPED)
    _check_suffix(suffix, output)
    _check_terminals(image, output)
    check_files(job, settings)
    watch = Stopwatch()
    with watch.stage("decode"):
        photo = _read(image, max_pixels=settings.max_pixels)
    check_files(job, settings, photo=photo)
    written = (suffix or suffix_of(photo.format)) if to_stream else Path(output).suffix
    if to_stream:
        check_encodable(
            suffix=written, photo=photo, quality=settings.quality, origin="standard output"
        )
    mask = given_mask(settings.mask, photo)
    deblurrer = opening.open()
    result = deblurrer(photo.pixels, mask=mask)
    watch.seconds.update(result.seconds)
    with watch.stage("encode"):
        write_files(job, settings, photo, result)
        if to_stream:
            _write_stream(
                encoded_output(
                    settings,
                    photo,
                    pixels=result.image,
                    mask=result.mask,
                    suffix=written,
                    origin="standard output",
                )
            )
    copied = (to_stream or job.output is not None) and is_copied(
        settings, photo, mask=result.mask, suffix=written
    )
    return outcome_of(wanted, result, deblurrer, seconds=watch.seconds, copied=copied)


def _check_suffix(suffix: str | None, output: str) -> None:
    if suffix is None:
        return
    check_encodable(suffix=suffix, origin="--suffix")
    if output != STREAM and Path(output).suffix.lower() != suffix.lower():
        raise UsageError(
            f"found --suffix {suffix} and -o {output}, which names the format; "
            "--suffix is for folders and standard output"
        )


def _check_terminals(image: str, output: str) -> None:
    if image == STREAM and sys.stdin.isatty():
        raise UsageError("-: found a terminal as standard input, expected a picture from a pipe")
    if output == STREAM and sys.stdout.isatty():
        raise UsageError("-o -: found a terminal as standard output, expected a pipe or a file")


def _read(image: str, *, max_pixels: int) -> Photo:
    if image != STREAM:
        return read_photo(Path(image), max_pixels=max_pixels)
    limit = largest_file(max_pixels)
    data = sys.stdin.buffer.read(limit + 1)
    if len(data) > limit:
        raise ImageError(f"standard input: found more than {limit} bytes, expected one picture")
    return decode_photo(data, origin="standard input", max_pixels=max_pixels)


def _write_stream(content: bytes) -> None:
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
