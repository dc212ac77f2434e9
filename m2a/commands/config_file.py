"""`--config FILE.toml`: a command's options from a file.

Precedence: the command line, then the file, then the option's own default.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from m2a.errors import UsageError

Command = TypeVar("Command", bound=Callable[..., Any])

OPTION = "--config"


def config_option(command: Command) -> Command:
    """`--config FILE.toml`, which gives the command's other options their defaults."""
    return click.option(
        OPTION,
        type=click.Path(path_type=Path),
        metavar="FILE.toml",
        expose_value=False,
        is_eager=True,
        callback=_take_defaults,
        help="Read options from a file, as in `threshold = 0.3` or `skip-existing = true`. "
        "The command line goes before the file, the file before the defaults.",
    )(command)


def read_options(path: Path, command: click.Command) -> dict[str, Any]:
    """Reads the values of a command's options.

    Args:
        path: a TOML file. Its keys are the options' long names without the dashes in front, its
            values true or false for a switch, numbers and strings for the others. Names of files
            are taken as on the command line, from the working directory.
        command: the command whose options they are.

    Returns:
        The name of the parameter → the value; only those that the file holds.

    Raises:
        UsageError: the file cannot be read or is not TOML, a key is no option of the command, or a
            value is of another type.
    """
    options = {
        name.removeprefix("--"): option
        for option in command.params
        if isinstance(option, click.Option)
        for name in option.opts
        if name.startswith("--") and name != OPTION
    }
    values = {}
    for key, value in _read_table(path).items():
        if key not in options:
            raise UsageError(
                f"{path}: found {key!r}, expected options of `m2a {command.name}`: "
                f"{', '.join(options)}"
            )
        option = options[key]
        types, expected = _expected(option)
        # A NUL byte, which no argument can hold, has no place in a file's name.
        if type(value) not in types or "\0" in str(value):
            raise UsageError(f"{path}: found {key} = {value!r}, expected {expected}")
        values[str(option.name)] = value
    return values


def _take_defaults(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    if path is not None:
        context.default_map = read_options(path, context.command)


def _expected(option: click.Option) -> tuple[tuple[type, ...], str]:
    """The types of a value that fit an option, and their name in a message."""
    if option.is_flag:
        return (bool,), "true or false"
    if option.type is click.FLOAT:
        return (float, int), "a number"
    if option.type is click.INT:
        return (int,), "an integer"
    return (str,), "a string in quotes"


def _read_table(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: found no such file, expected options in TOML") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: found something else than TOML: {error}") from error
