"""The pictures that a command reads and the name that it writes, and what is said if they lack.

No picture is opened here; `m2a COMMAND --help` does without the runtime.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from m2a.errors import UsageError

Command = TypeVar("Command", bound=Callable[..., Any])

__all__ = ["images_argument", "output_option", "refuse_addresses"]


def images_argument(command: Command) -> Command:
    """`IMAGE...`, the names of pictures."""
    return click.argument("images", nargs=-1, required=True, type=_Image(), metavar="IMAGE...")(
        command
    )


def output_option(
    *,
    metavar: str,
    help: str,  # noqa: A002 - click's word
    example: str | None = None,
) -> Callable[[Command], Command]:
    """`-o NAME`.

    Args:
        metavar: what the help shows for the name.
        help: what the help says.
        example: a name to propose to those who give none; None proposes one like the input's.
    """
    return click.option(
        "-o", "--output", required=True, type=_Output(example), metavar=metavar, help=help
    )


def refuse_addresses(images: Sequence[str], output: str) -> None:
    """Refuses addresses where names of files are expected.

    Raises:
        UsageError: one of them is an address.
    """
    for image in images:
        if _is_address(image):
            raise UsageError(
                f"{image}: found an address, expected the name of a file: m2a reads files only; "
                "download it first"
            )
    if _is_address(output):
        raise UsageError(f"-o {output}: found an address, expected the name of a file to write")


def _is_address(text: str) -> bool:
    return re.match(r"[a-z][a-z0-9+.-]+://", text, re.IGNORECASE) is not None


class _Image(click.types.StringParamType):
    name = "IMAGE"

    def get_missing_message(
        self, param: click.Parameter, ctx: click.Context | None = None
    ) -> str | None:
        return f"Name what to read: `m2a {_command(ctx)} photo.jpg -o …`."


class _Output(click.types.StringParamType):
    name = "FILE"

    def __init__(self, example: str | None) -> None:
        self._example = example

    def get_missing_message(
        self, param: click.Parameter, ctx: click.Context | None = None
    ) -> str | None:
        images = [] if ctx is None else list(ctx.params.get("images") or ())
        words = ["m2a", _command(ctx), *_with_output(images, self._example)]
        return f"Say where to write, as in `{shlex.join(words)}`."


def _with_output(images: Sequence[str], example: str | None) -> list[str]:
    """Inputs, and an output that may have been meant."""
    if not images:
        return ["photo.jpg", "-o", example or "photo-sharp.jpg"]
    *others, last = images
    if others and not Path(last).exists():  # `m2a run in.png out.png`
        return [*others, "-o", last]
    if example is not None:
        return [*images, "-o", example]
    first = Path(images[0])
    if others or first.is_dir() or not first.suffix:
        return [*images, "-o", "sharp/"]
    return [*images, "-o", f"{first.stem}-sharp{first.suffix}"]


def _command(ctx: click.Context | None) -> str:
    return "run" if ctx is None or ctx.info_name is None else ctx.info_name
