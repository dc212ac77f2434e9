"""`m2a report`: a page that shows what was done to photos."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import click

from m2a.commands.config_file import config_option
from m2a.commands.interrupts import held_interrupts
from m2a.commands.opening import Opening, opening_options
from m2a.commands.options import (
    EXISTING_OR_NOT,
    json_option,
    mask_option,
    overwrite_option,
    print_json,
)
from m2a.commands.run_report import fields_of
from m2a.diagnosis.versions import installed_versions
from m2a.errors import ImageError, UsageError, on_one_line
from m2a.files import atomic_write, check_target
from m2a.reports import (
    Failed,
    Provenance,
    Shown,
    counted,
    render_page,
    report_photo,
    report_photos,
)
from m2a.runtime.batch import DONE, FAILED, Outcome, check_mask, mask_files
from m2a.runtime.deblurrer import Deblurrer
from m2a.runtime.plan import check_not_read

_SUFFIXES = (".html", ".htm")


@click.command("report")
@click.argument("images", nargs=-1, required=True, type=EXISTING_OR_NOT, metavar="IMAGE...")
@click.option(
    "-o",
    "--output",
    required=True,
    type=EXISTING_OR_NOT,
    metavar="FILE.html",
    help="The page to write.",
)
@config_option
@opening_options()
@mask_option
@overwrite_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    images: tuple[Path, ...],
    output: Path,
    opening: Opening,
    mask_in: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Deblur IMAGE and write a page that shows before and after, mask, motion and figures.

    The page is one file that needs nothing else and asks nobody for anything. It holds the photos,
    those of more than 2000 pixels a side scaled down, without their metadata. The photos are only
    read. Of several, one that fails is told on the page and does not stop the others, and the exit
    code is 1.

    \b
    Example:
      m2a report street.jpg -o report.html
      m2a report photos/*.jpg -o report.html --overwrite
    """
    _check(images, output, mask_in, overwrite=overwrite)
    deblurrer = opening.open()
    photos: list[Shown | Failed]
    if len(images) == 1:
        photos = [report_photo(images[0], deblurrer, mask=mask_in)]
    else:
        photos = list(_reported(images, deblurrer, mask_in, as_json=as_json))
    failed = sum(isinstance(photo, Failed) for photo in photos)
    if failed == len(photos):
        if as_json:
            _print_objects(photos, output)
        raise ImageError(f"{output} was not written: none of {failed} photos could be deblurred")
    page = render_page(
        photos,
        Provenance(
            bundle=deblurrer.bundle,
            precision=deblurrer.precision,
            threshold=deblurrer.threshold,
            dilate=deblurrer.dilate,
            mask=mask_in,
            versions=installed_versions(),
            made=datetime.now(timezone.utc),
        ),
    )
    content = page.encode("utf-8")
    atomic_write(output, content, overwrite=overwrite)
    if as_json:
        _print_objects(photos, output)
    click.echo(f"{on_one_line(output)}: {counted(photos)}, {len(content) / 1e6:.1f} MB", err=True)
    ctx.exit(1 if failed else 0)


def _check(images: tuple[Path, ...], output: Path, mask: str | None, *, overwrite: bool) -> None:
    """Refuses what cannot be meant, before any work is done."""
    if output.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"{output}: found the suffix {output.suffix!r}, expected .html")
    check_target(output, overwrite=overwrite)
    check_not_read("-o", output, [*images, *mask_files(mask)])
    check_mask(mask, photos=len(images))


def _reported(
    images: tuple[Path, ...], deblurrer: Deblurrer, mask: str | None, *, as_json: bool
) -> Iterator[Shown | Failed]:
    """The photos, one after the other, with their progress on standard error."""
    # Not above: one photo shall not wait for the import of rich.
    from m2a.commands.progress import progress_bar

    hidden = as_json and sys.stdout.isatty()
    with (
        held_interrupts() as raise_held,
        progress_bar(len(images), "Deblurring", quiet=True, hidden=hidden) as bar,
    ):
        photos = report_photos(images, deblurrer, mask=mask)
        for number, photo in enumerate(photos, start=1):
            if isinstance(photo, Failed):
                bar.line(f"m2a: {on_one_line(photo.reason)}")
            bar.at(number)
            yield photo
            raise_held()


def _print_objects(photos: Iterable[Shown | Failed], output: Path) -> None:
    for photo in photos:
        print_json(fields_of(_outcome(photo, output)))


def _outcome(photo: Shown | Failed, output: Path) -> Outcome:
    if isinstance(photo, Failed):
        return Outcome(source=photo.source, output=None, status=FAILED, reason=photo.reason)
    return Outcome(
        source=photo.source,
        output=output,
        status=DONE,
        coverage=photo.coverage,
        backend=photo.backend,
        seconds=photo.seconds,
    )
