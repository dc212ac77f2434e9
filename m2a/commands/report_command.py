"""`m2a report`: a page that shows what was done to photos."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path

import click

from m2a.commands.config_file import config_option
from m2a.commands.inputs import images_argument, output_option, refuse_addresses
from m2a.commands.interrupts import held_interrupts
from m2a.commands.opening import Opening, opening_options
from m2a.commands.options import (
    json_option,
    mask_option,
    overwrite_option,
    print_json,
    recursive_option,
)
from m2a.commands.run_report import fields_of, nothing_found
from m2a.commands.single_values import SingleValues
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
from m2a.runtime.batch import check_mask_option
from m2a.runtime.deblurrer import Deblurrer
from m2a.runtime.outcomes import DONE, FAILED, Outcome
from m2a.runtime.plan import check_not_read
from m2a.runtime.search import PassedOver, Search
from m2a.runtime.settings import mask_files

_SUFFIXES = (".html", ".htm")


@click.command("report", cls=SingleValues)
@images_argument
@output_option(metavar="FILE.html", help="The page to write.", example="report.html")
@config_option
@opening_options()
@mask_option
@recursive_option
@overwrite_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    images: tuple[str, ...],
    output: str,
    opening: Opening,
    mask_in: str | None,
    recursive: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Deblur IMAGE and write a page that shows before and after, mask, motion and figures.

    The page is one file that needs nothing else and asks nobody for anything. It holds the photos,
    those of more than 2000 pixels a side scaled down, without their metadata. The photos are only
    read. Of several, one that fails, or a folder that cannot be read, is told on the page and does
    not stop the others, and the exit code is 1.

    IMAGE is a file, several, a folder, or a pattern in quotes.

    \b
    Example:
      m2a report street.jpg -o report.html
      m2a report photos -o report.html --recursive --overwrite
    """
    refuse_addresses(images, output)
    search = Search(recursive=recursive)
    sources = tuple(path for text in images for path, _ in search.sources(text))
    page = Path(output)
    _check(sources, page, mask_in, overwrite=overwrite)
    deblurrer = opening.open()
    photos: list[Shown | Failed]
    if len(sources) == 1 and not search.unreadable:
        photos = [report_photo(sources[0], deblurrer, mask=mask_in)]
    else:
        photos = list(_reported(sources, search.unreadable, deblurrer, mask_in, as_json=as_json))
    failed = sum(isinstance(photo, Failed) for photo in photos)
    if failed == len(photos):
        if as_json:
            _print_objects(photos, page, deblurrer)
        raise ImageError(f"{page} was not written: none of {failed} photos could be deblurred")
    content = _rendered(photos, deblurrer, mask_in)
    atomic_write(page, content, overwrite=overwrite)
    if as_json:
        _print_objects(photos, page, deblurrer)
    _tell(photos, page, deblurrer, size=len(content), passed_over=search.passed_over)
    ctx.exit(1 if failed else 0)


def _rendered(photos: list[Shown | Failed], deblurrer: Deblurrer, mask: str | None) -> bytes:
    made = Provenance(
        bundle=deblurrer.bundle,
        precision=deblurrer.precision,
        threshold=deblurrer.threshold,
        dilate=deblurrer.dilate,
        ensemble=deblurrer.ensemble,
        mask=mask,
        versions=installed_versions(),
        made=datetime.now(timezone.utc),
    )
    return render_page(photos, made).encode("utf-8")


def _tell(
    photos: list[Shown | Failed],
    page: Path,
    deblurrer: Deblurrer,
    *,
    size: int,
    passed_over: PassedOver,
) -> None:
    # Of rich it imports nothing else.
    from rich.filesize import decimal

    left = f"; {passed_over}" if str(passed_over) else ""
    click.echo(f"{on_one_line(page)}: {counted(photos)}, {decimal(size)}{left}", err=True)
    for photo in photos:
        if isinstance(photo, Shown) and not photo.coverage:
            why = nothing_found(deblurrer.threshold, photo.highest_probability)
            click.echo(f"{on_one_line(photo.source)}: {why}", err=True)


def _check(images: tuple[Path, ...], output: Path, mask: str | None, *, overwrite: bool) -> None:
    """Refuses what cannot be meant, before any work is done."""
    if output.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"{output}: found the suffix {output.suffix!r}, expected .html")
    check_target(output, overwrite=overwrite)
    check_not_read("-o", output, [*images, *mask_files(mask)])
    check_mask_option(mask, photos=len(images))


def _reported(
    images: tuple[Path, ...],
    unreadable: Mapping[Path, str],
    deblurrer: Deblurrer,
    mask: str | None,
    *,
    as_json: bool,
) -> Iterator[Shown | Failed]:
    """The folders that cannot be read and the photos, one after the other, with their progress."""
    # Not above: one photo shall not wait for the import of rich.
    from m2a.commands.progress import progress_bar

    locked = [
        Failed(source=folder, reason=f"{folder}: {why}") for folder, why in unreadable.items()
    ]
    total = len(locked) + len(images)
    hidden = as_json and sys.stdout.isatty()
    with (
        held_interrupts() as interrupt,
        progress_bar(total, "Deblurring", quiet=True, hidden=hidden) as bar,
    ):
        photos = itertools.chain(locked, report_photos(images, deblurrer, mask=mask))
        for number, photo in enumerate(photos, start=1):
            if isinstance(photo, Failed):
                bar.line(f"m2a: {on_one_line(photo.reason)}")
            bar.at(number)
            yield photo
            interrupt.raise_if_came()


def _print_objects(photos: Iterable[Shown | Failed], output: Path, deblurrer: Deblurrer) -> None:
    for photo in photos:
        print_json(fields_of(_outcome(photo, output, deblurrer)))


def _outcome(photo: Shown | Failed, output: Path, deblurrer: Deblurrer) -> Outcome:
    if isinstance(photo, Failed):
        return Outcome(source=photo.source, output=None, status=FAILED, reason=photo.reason)
    return Outcome(
        source=photo.source,
        output=output,
        status=DONE,
        coverage=photo.coverage,
        pixels=photo.size[0] * photo.size[1],
        highest_probability=photo.highest_probability,
        threshold=deblurrer.threshold,
        backend=photo.backend,
        precision=deblurrer.precision,
        precision_reason=deblurrer.precision_reason,
        ensemble=deblurrer.ensemble,
        seconds=photo.seconds,
    )
