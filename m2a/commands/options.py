"""Options and output that several commands share.

The runtime is imported where it is used: `m2a doctor` answers even where NumPy is broken.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from m2a.runtime.bundle import Bundle

Command = TypeVar("Command", bound=Callable[..., Any])

EXISTING_OR_NOT = click.Path(path_type=Path)


def bundle_option(command: Command) -> Command:
    """`--bundle DIR`."""
    return click.option(
        "--bundle",
        type=EXISTING_OR_NOT,
        help="The bundle's directory. Otherwise $M2A_BUNDLE, ./m2a-bundle if it is there, or the "
        "packaged model, in this order.",
    )(command)


def backend_options(command: Command) -> Command:
    """`--backend NAME` and `--allow-fallback`."""
    from m2a.runtime.backends import DEFAULT_BACKEND, NAMES

    fallback = click.option(
        "--allow-fallback/--no-allow-fallback",
        help=f"Use {DEFAULT_BACKEND} where the backend cannot be used, instead of failing.",
    )
    backend = click.option(
        "--backend",
        default=DEFAULT_BACKEND,
        show_default=True,
        metavar="|".join(NAMES),
        help="Who computes the graphs.",
    )
    return backend(fallback(command))


def precision_option(command: Command) -> Command:
    """`--precision NAME`."""
    from m2a.runtime.bundle import MADE_BY, PRECISIONS
    from m2a.runtime.precision import AUTO

    others = [f"{name} where `{made_by}` made them" for name, made_by in MADE_BY.items()][1:]
    return click.option(
        "--precision",
        type=click.Choice([AUTO, *PRECISIONS]),
        metavar="|".join([AUTO, *PRECISIONS]),
        default=AUTO,
        show_default=True,
        help=f"Which of the bundle's graphs to compute: fp32, {', '.join(others)}, or auto: the "
        "best verified ones for the backend, which on a CPU are fp32.",
    )(command)


class MemorySize(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2 only
    """A number of bytes such as `2GiB`, `800MiB` or `1.5G`; the units are powers of 1024."""

    name = "SIZE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Parses the text."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", str(value), re.IGNORECASE)
        if match is None:
            self.fail(f"expected a size such as 2GiB or 800MiB, found {value!r}", param, ctx)
        number, unit = match.groups()
        size = int(float(number) * 1024 ** " KMGT".index(unit.upper() or " "))
        if not unit and size < 2**20:
            self.fail(f"found {value}, which means bytes, expected e.g. {number}GiB", param, ctx)
        return size


ensemble_option = click.option(
    "--ensemble",
    type=int,
    default=1,
    metavar="1|2|4|8",
    show_default=True,
    help="Compute a picture in as many orientations (2: mirrored too; 4: upside down as well; 8: "
    "and transposed) and take the mean: as a rule a better picture, for as many times the "
    "computation.",
)


def resource_options(command: Command) -> Command:
    """`--max-memory SIZE` and `--threads N`."""
    threads = click.option(
        "--threads",
        type=click.IntRange(min=1),
        help="Threads that compute. [default: the cores it may use]",
    )
    memory = click.option(
        "--max-memory",
        type=MemorySize(),
        help="What the graphs may take at a time, about, such as 2GiB: a larger picture is "
        "computed in parts, with the same result; on tensorrt it is not, and takes what it "
        "needs. [default: a quarter of the memory that is free]",
    )
    return memory(threads(command))


def mask_option(command: Command) -> Command:
    """`--mask-in FILE|full`."""
    return click.option(
        "--mask-in",
        metavar="FILE|full",
        help="Restore these pixels instead of the predicted ones: a picture whose bright pixels "
        "are the mask, or all pixels.",
    )(command)


def recursive_option(command: Command) -> Command:
    """`--recursive`."""
    return click.option(
        "--recursive/--no-recursive", help="Look into the folders of a folder too."
    )(command)


def overwrite_option(command: Command) -> Command:
    """`--overwrite`."""
    return click.option("--overwrite/--no-overwrite", help="Replace files that exist.")(command)


def json_option(command: Command) -> Command:
    """`--json`."""
    return click.option(
        "--json/--no-json", "as_json", help="Print one JSON object a result on standard output."
    )(command)


def chosen_bundle(given: Path | None) -> Bundle:
    """Opens the bundle of a command and says on standard error which it is."""
    from m2a.runtime.bundle import find_bundle

    bundle = find_bundle(given, working_directory=True)
    if given is None:
        click.echo(f"bundle: {bundle.path} ({bundle.origin})", err=True)
    return bundle


def print_json(content: Mapping[str, Any]) -> None:
    """Prints one object on standard output; numbers that JSON lacks become null."""
    click.echo(json.dumps(_finite(content)))


def _finite(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
