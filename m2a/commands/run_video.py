"""`m2a run` on a video."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from m2a.commands.opening import Opening
from m2a.commands.options import print_json
from m2a.commands.run_report import fields_of, line_of, percentage
from m2a.errors import UsageError, on_one_line
from m2a.runtime.deblurrer import Deblurrer
from m2a.runtime.images import read_mask
from m2a.runtime.outcomes import DONE, SKIPPED, Outcome
from m2a.runtime.plan import STREAM, check_named, check_not_read, exists, names_folder
from m2a.runtime.settings import FULL, Settings

if TYPE_CHECKING:
    from m2a.runtime.video.deblur import DeblurredVideo
    from m2a.runtime.video.footage import Footage

_READ_ONLY = {".avi": ".mkv"}
"""Suffix of a container that is only read → of the one written in its place into a folder."""


def run_video(
    source: str,
    output: str,
    pictures: Mapping[str, Path],
    suffix: str | None,
    settings: Settings,
    opening: Opening,
    *,
    recursive: bool,
    crf: int | None,
    as_json: bool,
) -> None:
    """Deblurs one video and says what became of it; what fails is raised.

    Args:
        source: the video.
        output: the file to write, or a folder.
        pictures: what is wanted beside the output, of which a video has nothing.
        suffix: of the output in a folder; None for the source's.
        settings: as for pictures.
        opening: the bundle, which is opened when all else has been checked.
        recursive: asked for folders, of which a video is none.
        crf: the encoder's constant rate factor; None for its default.
        as_json: print an object on standard output.
    """
    # Not above: pictures shall not wait for it, nor need it.
    from m2a.runtime.video import deblur
    from m2a.runtime.video import target as writing
    from m2a.runtime.video.footage import probe

    path = Path(source)
    if suffix is not None:
        writing.check_video_suffix(suffix, origin="--suffix")
    target = _target(path, output, suffix)
    if pictures:
        raise UsageError(
            f"--{next(iter(pictures))}-out: found the video {path}, expected pictures: of a video "
            "only the deblurred one is written"
        )
    if settings.quality is not None:
        raise UsageError(
            f"--quality: found {settings.quality} for the video {path}, expected --crf, which sets "
            "a video's quality"
        )
    if recursive:
        raise UsageError(f"--recursive: found the video {path}, expected a folder of pictures")
    check_not_read("-o", target, settings.mask_files)
    if settings.skip_existing and exists(target):
        _tell_skipped(path, target, as_json=as_json)
        return
    footage = probe(path, max_pixels=settings.max_pixels)
    if names_folder(output):
        target.parent.mkdir(parents=True, exist_ok=True)
    writing.check_video_output(target, overwrite=settings.overwrite)
    mask = _mask(settings.mask, footage)
    deblurrer = opening.open()
    began = time.perf_counter()
    from m2a.commands.progress import progress_bar

    # On one terminal an object and the bar would write over each other.
    hidden = as_json and sys.stdout.isatty()
    with progress_bar(
        footage.frames, "Deblurring", quiet=True, hidden=hidden, time_left=True
    ) as bar:
        done = deblur.deblur_video(
            footage,
            target,
            deblurrer,
            writing.VideoSettings(
                overwrite=settings.overwrite, crf=crf, strip_metadata=settings.strip_metadata
            ),
            mask=mask,
            progress=bar.at,
            note=lambda line: bar.line(on_one_line(line)),
        )
    if as_json:
        print_json(
            _fields(
                path,
                target,
                done,
                deblurrer,
                threshold=None if mask is not None else deblurrer.threshold,
            )
        )
    else:
        seconds = time.perf_counter() - began
        _tell(
            target,
            done,
            seconds=seconds,
            threshold=None if mask is not None else deblurrer.threshold,
        )


def _target(path: Path, output: str, suffix: str | None) -> Path:
    if output == STREAM:
        raise UsageError(
            f"-o -: found the video {path}, expected a picture; a video is written to a file"
        )
    if names_folder(output):
        own = path.suffix.lower()
        return Path(output) / path.with_suffix(suffix or _READ_ONLY.get(own, path.suffix)).name
    if suffix is not None and Path(output).suffix.lower() != suffix.lower():
        raise UsageError(
            f"found --suffix {suffix} and -o {output}, which names the format; "
            "--suffix is for folders"
        )
    check_named(Path(output))
    return Path(output)


def _mask(mask: str | None, footage: Footage) -> NDArray[np.bool_] | None:
    """The mask of every frame as it is shown; None if it is to be predicted for each."""
    if mask is None:
        return None
    if mask == FULL:
        return np.ones(footage.shown_size, bool)
    return read_mask(Path(mask), shape=footage.shown_size)


def _fields(
    source: Path,
    output: Path,
    done: DeblurredVideo,
    deblurrer: Deblurrer,
    *,
    threshold: float | None,
) -> dict[str, Any]:
    outcome = Outcome(
        source=source,
        output=output,
        status=DONE,
        coverage=done.coverage,
        threshold=threshold,
        backend=done.backend,
        precision=deblurrer.precision,
        precision_reason=deblurrer.precision_reason,
        ensemble=deblurrer.ensemble,
        seconds=done.seconds,
    )
    return fields_of(outcome) | {
        "frames": done.frames,
        "restored_frames": done.restored_frames,
        "duration": done.duration,
        "codec": done.codec,
    }


def _tell(output: Path, done: DeblurredVideo, *, seconds: float, threshold: float | None) -> None:
    name = on_one_line(output)
    if not done.restored_frames:
        why = (
            "the mask that was given is empty"
            if threshold is None
            else f"no probability reaches the threshold of {threshold:g}; a lower --threshold or "
            "--mask-in restores some all the same"
        )
        click.echo(
            f"{name}: no motion blur found in {done.frames} frames, which are only encoded again: "
            f"{why}",
            err=True,
        )
        return
    click.echo(
        f"{name}: {percentage(done.coverage)} of the pixels restored, in {done.restored_frames} of "
        f"{done.frames} frames, in {seconds:.1f} s on {done.backend}",
        err=True,
    )


def _tell_skipped(source: Path, output: Path, *, as_json: bool) -> None:
    outcome = Outcome(source=source, output=output, status=SKIPPED)
    if as_json:
        print_json(fields_of(outcome))
    else:
        click.echo(line_of(outcome), err=True)
