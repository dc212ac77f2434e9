"""`m2a run`: deblur photos."""

from __future__ import annotations

from pathlib import Path

import click

from m2a.commands.config_file import config_option
from m2a.commands.inputs import images_argument, output_option, refuse_addresses
from m2a.commands.opening import Opening, opening_options
from m2a.commands.options import (
    EXISTING_OR_NOT,
    json_option,
    mask_option,
    overwrite_option,
    print_json,
    recursive_option,
)
from m2a.commands.run_one import run_one
from m2a.commands.run_report import fields_of, line_of
from m2a.commands.run_several import run_several
from m2a.commands.single_values import SingleValues
from m2a.errors import UsageError
from m2a.runtime.decoding import MAX_PIXELS
from m2a.runtime.plan import STREAM, is_one_video, plan_jobs, takes_one_file
from m2a.runtime.settings import Settings


@click.command("run", cls=SingleValues)
@images_argument
@output_option(
    metavar="FILE|FOLDER/|-",
    help="The file to write, whose suffix names the format; the folder to write into, which exists "
    "or ends with /; or - for standard output. Several inputs need a folder.",
)
@config_option
@opening_options()
@mask_option
@click.option("--mask-out", type=EXISTING_OR_NOT, help="Write the restored pixels as a PNG.")
@click.option(
    "--compare-out", type=EXISTING_OR_NOT, help="Write before and after, side by side, as a PNG."
)
@click.option(
    "--motion-out",
    type=EXISTING_OR_NOT,
    help="Write the photo with the predicted trajectories drawn over it, as a PNG; with --ensemble "
    "those of the photo as it is.",
)
@click.option(
    "--suffix",
    metavar="SUFFIX",
    help="Format of the outputs in a folder or on standard output, as in .png. "
    "[default: the input's, or .png where that is read only]",
)
@recursive_option
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
    help="Quality of JPEG, WebP and AVIF outputs. [default: of JPEG the source's, or 95; of WebP "
    "and AVIF 90 where the source is lossy and of the same format, else lossless]",
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
    "-v",
    "--verbose/--no-verbose",
    help="Of several, say a line of each: how much was restored, and the seconds it took.",
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
@json_option
def command(
    images: tuple[str, ...],
    output: str,
    opening: Opening,
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
    crf: int | None,
    verbose: bool,
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

    if ray is not None:
        from m2a.commands.run_cluster import Cluster, run_cluster

        code = run_cluster(
            images,
            output,
            settings,
            opening,
            Cluster(address=ray, actors=actors, gpus_per_actor=gpus_per_actor or 0),
            refused={f"--{name}-out": path for name, path in wanted.items()} | {"--crf": crf},
            suffix=suffix,
            recursive=recursive,
            as_json=as_json,
        )
        click.get_current_context().exit(code)
    for option, value in (("--actors", actors), ("--gpus-per-actor", gpus_per_actor)):
        if value is not None:
            raise UsageError(f"{option}: found {value:g} without --ray, expected both or neither")
    refuse_addresses(images, output)
    if is_one_video(images):
        from m2a.commands.run_video import run_video

        run_video(
            images[0],
            output,
            pictures,
            suffix,
            settings,
            opening,
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
        outcome = run_one(images[0], output, pictures, suffix, settings, opening)
        if as_json:
            print_json(fields_of(outcome))
        else:
            click.echo(line_of(outcome), err=True)
        return
    plan = plan_jobs(images, output, pictures=pictures, recursive=recursive, suffix=suffix)
    code = run_several(plan, Path(output), settings, opening, verbose=verbose, as_json=as_json)
    click.get_current_context().exit(code)
