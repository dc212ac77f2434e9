"""`m2a run`: deblur photos."""

from __future__ import annotations

import functools
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path

import click

from m2a.commands.config_file import config_option
from m2a.commands.interrupts import held_interrupts
from m2a.commands.options import (
    EXISTING_OR_NOT,
    backend_options,
    bundle_option,
    chosen_bundle,
    json_option,
    mask_options,
    overwrite_option,
    precision_option,
    print_json,
    resource_options,
)
from m2a.commands.run_report import echo_outcome, fields_of, summary_of
from m2a.errors import ImageError, UsageError, on_one_line
from m2a.runtime.batch import (
    FAILED,
    SKIPPED,
    Outcome,
    Settings,
    check_files,
    check_plan,
    deblur_files,
    deblurred,
    given_mask,
    outcome_of,
    write_files,
)
from m2a.runtime.deblurrer import Deblurrer, open_bundle_on
from m2a.runtime.decoding import MAX_PIXELS, decode_photo, largest_file
from m2a.runtime.encoding import check_encodable, encode_photo, suffix_of
from m2a.runtime.images import read_photo
from m2a.runtime.journal import Journal
from m2a.runtime.photo import Photo
from m2a.runtime.plan import STREAM, Job, Plan, is_one_video, plan_jobs, takes_one_file

Open = Callable[[], Deblurrer]


@click.command("run")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE|FOLDER|-",
    help="The file to write, whose suffix names the format; the folder to write into, where there "
    "are several inputs; or - for standard output.",
)
@config_option
@bundle_option
@backend_options
@precision_option
@mask_options
@click.option("--mask-out", type=EXISTING_OR_NOT, help="Write the restored pixels as a PNG.")
@click.option(
    "--compare-out", type=EXISTING_OR_NOT, help="Write before and after, side by side, as a PNG."
)
@click.option(
    "--motion-out",
    type=EXISTING_OR_NOT,
    help="Write the photo with the predicted trajectories drawn over it, as a PNG.",
)
@click.option(
    "--suffix",
    metavar="SUFFIX",
    help="Format of the outputs in a folder or on standard output, as in .png. "
    "[default: the input's, or .png where that is read only]",
)
@click.option("--recursive/--no-recursive", help="Look into the folders of a folder too.")
@click.option(
    "--skip-existing/--no-skip-existing",
    help="Keep files that exist and write only what is missing.",
)
@overwrite_option
@click.option(
    "--strip-metadata/--keep-metadata",
    help="Leave EXIF, XMP and IPTC out. The colour profile stays.",
)
@click.option(
    "--quality",
    type=int,
    metavar="1-100",
    help="Quality of JPEG, WebP and AVIF outputs. [default: the source's, where it is of the "
    "same format]",
)
@click.option(
    "--max-pixels",
    type=int,
    default=MAX_PIXELS,
    show_default=True,
    help="Refuse photos, and frames of a video, of more pixels, from their header.",
)
@click.option(
    "--crf",
    type=int,
    help="Of a video: the encoder's constant rate factor; lower is better and larger. "
    "[default: 16]",
)
@click.option(
    "--ray",
    is_flag=False,
    flag_value="local",
    metavar="[ADDRESS]",
    help="Deblur a folder or object store (s3://…) on a Ray cluster, or, without an address, by "
    "as many processes here as there are cores. Give it last, or as --ray=ADDRESS. Needs the extra "
    "`ray`.",
)
@click.option(
    "--actors",
    type=click.IntRange(min=1),
    help="With --ray: processes that deblur, on --threads cores each (1). [default: all that fit]",
)
@click.option(
    "--gpus-per-actor",
    type=click.FloatRange(min=0, min_open=True),
    help="With --ray: GPUs that each of them takes; 0.5 puts two on one. [default: none]",
)
@resource_options
@json_option
def command(
    images: tuple[str, ...],
    output: str,
    bundle: Path | None,
    backend: str,
    allow_fallback: bool,
    precision: str,
    threshold: float | None,
    dilate: int | None,
    mask_in: str | None,
    mask_out: Path | None,
    compare_out: Path | None,
    motion_out: Path | None,
    suffix: str | None,
    recursive: bool,
    skip_existing: bool,
    overwrite: bool,
    strip_metadata: bool,
    quality: int | None,
    max_pixels: int,
    max_memory: int | None,
    threads: int | None,
    crf: int | None,
    ray: str | None,
    actors: int | None,
    gpus_per_actor: float | None,
    as_json: bool,
) -> None:
    """Deblur IMAGE: find the motion-blurred pixels and restore only those.

    All other pixels stay exactly as they are.

    IMAGE is a file, several, a folder, a pattern in quotes, or - for standard input. With several,
    a folder or a pattern, the output and the pictures beside it are folders, one picture that fails
    does not stop the others, and the exit code is 1 if any failed.

    IMAGE may be one video (.mp4, .mov, .mkv, .m4v, .webm, .avi; needs the extra `video`): every
    frame is deblurred and encoded again, its time stamp, sound and all else kept.

    \b
    Example:
      m2a run street.jpg -o street-sharp.png --mask-out mask.png
      m2a run photos -o sharp --recursive --skip-existing
      m2a run - -o - --suffix .png < street.jpg > street-sharp.png
      m2a run clip.mp4 -o clip-sharp.mp4
      m2a run photos -o sharp --recursive --ray
    """
    settings = Settings(
        mask=mask_in,
        overwrite=overwrite,
        skip_existing=skip_existing,
        strip_metadata=strip_metadata,
        quality=quality,
        max_pixels=max_pixels,
    )
    wanted = {"mask": mask_out, "compare": compare_out, "motion": motion_out}
    pictures = {name: path for name, path in wanted.items() if path is not None}

    def open_deblurrer() -> Deblurrer:
        return open_bundle_on(
            chosen_bundle(bundle),
            backend=backend,
            precision=precision,
            threshold=threshold,
            dilate=dilate,
            allow_fallback=allow_fallback,
            max_memory=max_memory,
            threads=threads,
        )

    if ray is not None:
        from m2a.commands.run_cluster import ClusterOptions, run_cluster

        code = run_cluster(
            images,
            output,
            settings,
            ClusterOptions(
                address=ray,
                actors=actors,
                gpus_per_actor=gpus_per_actor or 0,
                backend=backend,
                precision=precision,
                threshold=threshold,
                dilate=dilate,
                allow_fallback=allow_fallback,
                max_memory=max_memory,
                threads=threads,
            ),
            lambda: chosen_bundle(bundle),
            refused={f"--{name}-out": path for name, path in wanted.items()} | {"--crf": crf},
            suffix=suffix,
            recursive=recursive,
            as_json=as_json,
        )
        click.get_current_context().exit(code)
    for option, value in (("--actors", actors), ("--gpus-per-actor", gpus_per_actor)):
        if value is not None:
            raise UsageError(f"{option}: found {value:g} without --ray, expected both or neither")
    if is_one_video(images):
        from m2a.commands.run_video import run_video

        run_video(
            images[0],
            output,
            pictures,
            suffix,
            settings,
            open_deblurrer,
            recursive=recursive,
            crf=crf,
            as_json=as_json,
        )
        return
    if crf is not None:
        raise UsageError(f"--crf: found {crf} for pictures, expected one video; see --quality")
    if takes_one_file(images, output):
        if output == STREAM and as_json:
            raise UsageError("--json and -o - both write to standard output; give -o a file")
        outcome = _run_one(images[0], output, pictures, suffix, settings, open_deblurrer)
        if as_json:
            print_json(fields_of(outcome))
        else:
            echo_outcome(outcome)
        return
    plan = plan_jobs(images, output, pictures=pictures, recursive=recursive, suffix=suffix)
    check_plan(plan, settings)
    in_place = any(job.in_place for job in plan.jobs)
    with Journal(Path(output)) if in_place else nullcontext() as journal:
        code = _run_several(plan, settings, open_deblurrer, journal, as_json=as_json)
    click.get_current_context().exit(code)


def _run_one(
    image: str,
    output: str,
    pictures: Mapping[str, Path],
    suffix: str | None,
    settings: Settings,
    open_deblurrer: Open,
) -> Outcome:
    """One picture, each end of which may be a stream; what fails is raised."""
    to_stream = output == STREAM
    wanted = Job(source=Path(image), output=None if to_stream else Path(output), pictures=pictures)
    job = wanted.without_existing() if settings.skip_existing else wanted
    if not job.files and not to_stream:
        return Outcome(source=job.source, output=wanted.output, status=SKIPPED)
    _check_suffix(suffix, output)
    _check_terminals(image, output)
    check_files(job, settings)
    photo = _read(image, max_pixels=settings.max_pixels)
    check_files(job, settings, photo=photo)
    if to_stream:
        suffix = suffix or suffix_of(photo.format)
        check_encodable(
            suffix=suffix, photo=photo, quality=settings.quality, origin="standard output"
        )
    mask = given_mask(settings.mask, photo)
    result = open_deblurrer()(photo.pixels, mask=mask)
    write_files(job, settings, photo, result)
    if to_stream:
        _write_stream(deblurred(settings, photo, result), str(suffix), settings.quality)
    return outcome_of(wanted, result)


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


def _write_stream(photo: Photo, suffix: str, quality: int | None) -> None:
    data = encode_photo(photo, suffix=suffix, quality=quality, origin="standard output")
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _run_several(
    plan: Plan,
    settings: Settings,
    open_deblurrer: Open,
    journal: Journal | None,
    *,
    as_json: bool,
) -> int:
    """All pictures of a plan; returns the exit code."""
    # Not above: one photo shall not wait for the import of rich.
    from m2a.commands.progress import progress_bar

    open_once = functools.cache(open_deblurrer)
    if not (settings.skip_existing and plan.complete):
        open_once()  # says which bundle it takes, where no bar is in the way yet
    total = len(plan.jobs) + len(plan.unreadable)
    counts: Counter[str] = Counter()
    replaced = 0
    began = time.perf_counter()

    def summary() -> str:
        seconds = time.perf_counter() - began
        return summary_of(counts, left=total - counts.total(), seconds=seconds)

    try:
        # On one terminal the objects and the bar would write over each other.
        hidden = as_json and sys.stdout.isatty()
        with (
            held_interrupts() as raise_held,
            progress_bar(total, "Deblurring", quiet=True, hidden=hidden) as bar,
        ):
            for outcome in _outcomes(plan, settings, open_once, journal):
                counts[outcome.status] += 1
                replaced += outcome.replaced
                if as_json:
                    print_json(fields_of(outcome))
                if outcome.reason is not None:
                    bar.line(f"m2a: {on_one_line(outcome.reason)}")
                failed = counts[FAILED]
                bar.at(counts.total(), f"{failed} failed" if failed else "")
                raise_held()
    except KeyboardInterrupt:
        if journal is not None:
            again = "; the same command does the rest, and no photo twice"
        elif settings.overwrite:
            again = ""
        else:
            again = "; --skip-existing does the rest another time"
        click.echo(summary() + again, err=True)
        raise
    click.echo(summary(), err=True)
    if journal is not None:
        if not counts[FAILED]:
            journal.remove()
        elif not journal.empty:
            click.echo(
                f"m2a: {on_one_line(journal.path)} tells the same command which photos are done; "
                "delete it to deblur them again",
                err=True,
            )
    if replaced:
        click.echo(
            f"m2a: {replaced} of the skipped had been replaced already by a run that was not "
            "finished",
            err=True,
        )
    return 1 if counts[FAILED] else 0


def _outcomes(
    plan: Plan, settings: Settings, open_deblurrer: Open, journal: Journal | None
) -> Iterator[Outcome]:
    for folder, why in plan.unreadable.items():
        yield Outcome(source=folder, output=None, status=FAILED, reason=f"{folder}: {why}")
    yield from deblur_files(plan.jobs, settings, open_deblurrer, journal=journal)
