"""`m2a run`: deblur a photo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from m2a.commands.options import (
    EXISTING_OR_NOT,
    backend_options,
    bundle_option,
    chosen_bundle,
    json_option,
    print_json,
)
from m2a.errors import M2AError, UsageError
from m2a.runtime.deblurrer import Result, open_bundle_on
from m2a.runtime.images import (
    Photo,
    check_output,
    read_mask,
    read_photo,
    write_mask,
    write_photo,
)

FULL = "full"
"""The word for a mask of all pixels."""


@click.command("run")
@click.argument("image", type=EXISTING_OR_NOT)
@click.option("-o", "--output", type=EXISTING_OR_NOT, required=True, help="The file to write.")
@bundle_option
@backend_options
@click.option(
    "--threshold",
    type=float,
    help="A pixel is restored where its blur probability is at least this. [default: the bundle's]",
)
@click.option(
    "--dilate", type=int, help="Pixels by which the mask is widened. [default: the bundle's]"
)
@click.option(
    "--mask-in",
    metavar="FILE|full",
    help="Restore these pixels instead of the predicted ones: a picture whose bright pixels are "
    "the mask, or all pixels.",
)
@click.option("--mask-out", type=EXISTING_OR_NOT, help="Write the restored pixels as a PNG.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@json_option
def command(
    image: Path,
    output: Path,
    bundle: Path | None,
    backend: str,
    allow_fallback: bool,
    threshold: float | None,
    dilate: int | None,
    mask_in: str | None,
    mask_out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Deblur IMAGE: find the motion-blurred pixels and restore only those.

    All other pixels stay exactly as they are.

    \b
    Example:
      m2a run street.jpg -o street-sharp.png --mask-out mask.png
    """
    check_output(output, overwrite=overwrite)
    if mask_out is not None:
        check_output(mask_out, overwrite=overwrite)
        if mask_out.suffix.lower() != ".png":
            raise UsageError(f"{mask_out}: found the suffix {mask_out.suffix!r}, expected .png")
        if mask_out.resolve() == output.resolve():
            raise UsageError(f"-o and --mask-out name the same file, {output}")
    photo = read_photo(image)
    check_output(output, overwrite=overwrite, photo=photo)
    mask = _given_mask(mask_in, photo)
    deblurrer = open_bundle_on(
        chosen_bundle(bundle),
        backend=backend,
        threshold=threshold,
        dilate=dilate,
        allow_fallback=allow_fallback,
    )
    result = deblurrer(photo.pixels, mask=mask)
    existed = output.exists()
    write_photo(output, replace(photo, pixels=result.image), overwrite=overwrite)
    if mask_out is not None:
        try:
            write_mask(mask_out, result.mask, overwrite=overwrite)
        except M2AError:
            if not existed:
                output.unlink(missing_ok=True)
            raise
    _report(image, output, result, as_json=as_json)


def _given_mask(mask_in: str | None, photo: Photo) -> NDArray[np.bool_] | None:
    shape = (photo.pixels.shape[0], photo.pixels.shape[1])
    if mask_in is None:
        return None
    if mask_in == FULL:
        return np.ones(shape, bool)
    return read_mask(Path(mask_in), shape=shape)


def _report(image: Path, output: Path, result: Result, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "input": str(image),
                "output": str(output),
                "coverage": result.coverage,
                "backend": result.backend,
                "seconds": dict(result.seconds),
            }
        )
        return
    if not result.mask.any():
        click.echo(f"{output}: no motion blur found, the picture is unchanged", err=True)
        return
    total = sum(result.seconds.values())
    click.echo(
        f"{output}: {result.coverage:.1%} of the pixels restored in {total:.2f} s "
        f"on {result.backend}",
        err=True,
    )
