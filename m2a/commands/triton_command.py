"""`m2a triton`: a repository for NVIDIA's Triton server."""

from __future__ import annotations

from pathlib import Path

import click

from m2a.commands.options import (
    EXISTING_OR_NOT,
    bundle_option,
    chosen_bundle,
    ensemble_option,
    json_option,
    overwrite_option,
    precision_option,
    print_json,
    resource_options,
)
from m2a.extras import needing_extra
from m2a.files import write_folder
from m2a.runtime.decoding import MAX_PIXELS
from m2a.runtime.precision import AUTO


@click.command("triton")
@click.option(
    "-o",
    "--output",
    type=EXISTING_OR_NOT,
    required=True,
    help="The repository's folder, written as a whole.",
)
@bundle_option
@click.option(
    "--backend",
    default="onnx",
    show_default=True,
    metavar="onnx|tensorrt|python",
    help="Who computes the graphs: Triton's ONNX Runtime; Triton's TensorRT, with the engines of "
    "`m2a build-engine`; or ONNX Runtime in the server's Python.",
)
@precision_option
@click.option(
    "--threshold",
    type=float,
    help="The default of the requests. [default: the bundle's]",
)
@click.option(
    "--dilate", type=int, help="The default of the requests, pixels. [default: the bundle's]"
)
@ensemble_option
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=MAX_PIXELS,
    show_default=True,
    help="Refuse pictures of more pixels.",
)
@resource_options
@click.option(
    "--instances",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes of each model that clients ask, which stitch at the same time; each counts its "
    "own --max-memory.",
)
@click.option(
    "--model-version",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="The number of the models' version.",
)
@overwrite_option
@json_option
def command(
    output: Path,
    bundle: Path | None,
    backend: str,
    precision: str,
    threshold: float | None,
    dilate: int | None,
    ensemble: int,
    max_pixels: int,
    max_memory: int | None,
    threads: int | None,
    instances: int,
    model_version: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write a model repository that NVIDIA's Triton server loads as it is.

    Clients ask `m2a` with an array or `m2a_file` with the bytes of a picture file; both give the
    pixels of `m2a run`.

    \b
    Example:
      m2a triton -o model_repository
      m2a triton -o model_repository --backend tensorrt --precision fp16 --overwrite
    """
    with needing_extra("triton", purpose="Writing a Triton repository"):
        from m2a.triton.repository import Order, repository_files
    from m2a.triton.place import check_replaceable

    check_replaceable(output, overwrite=overwrite)
    found = chosen_bundle(bundle)
    order = Order(
        backend=backend,
        # What is best on the server, nobody knows here.
        precision="fp32" if precision == AUTO else precision,
        threshold=found.threshold if threshold is None else threshold,
        dilate=found.dilate if dilate is None else dilate,
        ensemble=ensemble,
        max_pixels=max_pixels,
        max_memory=max_memory,
        threads=threads,
        instances=instances,
        version=model_version,
    )
    files = repository_files(found, order)
    write_folder(output.resolve(), files)
    models = sorted({Path(name).parts[0] for name in files if "/" in name})
    size = sum(map(len, files.values()))
    if as_json:
        print_json({"repository": str(output), "models": models, "bytes": size})
        return
    click.echo(f"{output}: {', '.join(models)}, {size / 1e6:.1f} MB")
    click.echo(f"Next: tritonserver --model-repository {output}")
