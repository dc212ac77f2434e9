"""`--config FILE.toml`: a command's options from a file.

Precedence: the command line, then the file, then the option's own default.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from click.types import FloatParamType, IntParamType

from m2a.errors import UsageError

Command = TypeVar("Command", bound=Callable[..., Any])

OPTION = "--config"

_BARE = re.compile(r"\s*([\w-]+)\s*=\s*([A-Za-z./~][^\s\"'#]*)\s*(?:#.*)?")
_TOML_WORDS = ("true", "false", "inf", "nan")


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
            values true or false for a switch, numbers and strings for the others, and lists of
            them for what can be repeated. Names of files are taken as on the command line, from
            the working directory.
        command: the command whose options they are.

    Returns:
        The name of the parameter → the value, a list for what can be repeated; only those that the
        file holds.

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
    for key, value in _read_table(path, options).items():
        if key not in options:
            raise UsageError(
                f"{path}: found {key!r}, which is no option of `m2a {command.name}`"
                f"{_advice(key, options, str(command.name))}"
            )
        option = options[key]
        types, expected = _expected(option)
        given = value if option.multiple and isinstance(value, list) else [value]
        # A NUL byte, which no argument can hold, has no place in a file's name.
        if not all(type(one) in types and "\0" not in str(one) for one in given):
            raise UsageError(f"{path}: found {key} = {value!r}, expected {expected}")
        values[str(option.name)] = given if option.multiple else value
    return values


def _take_defaults(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    if path is not None:
        context.default_map = read_options(path, context.command)


def _expected(option: click.Option) -> tuple[tuple[type, ...], str]:
    """The types of a value that fit an option, and their name in a message."""
    several = ", or a list of such" if option.multiple else ""
    if option.is_flag:
        return (bool,), "true or false"
    if isinstance(option.type, FloatParamType):  # also one with a range
        return (float, int), f"a number{several}"
    if isinstance(option.type, IntParamType):
        return (int,), f"an integer{several}"
    return (str,), f"a string in quotes{several}"


def _advice(key: str, options: Iterable[str], command: str) -> str:
    close = difflib.get_close_matches(key.replace("_", "-"), options, n=2)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; `m2a {command} --help` lists them"


def _bare_word(text: str, options: Mapping[str, click.Option]) -> str:
    """What was found and expected where a value is a word without quotes; empty elsewhere."""
    for line in text.splitlines():
        match = _BARE.fullmatch(line)
        if match is not None and match[2] not in _TOML_WORDS:
            option = options.get(match[1])
            expected = "a string in quotes" if option is None else _expected(option)[1]
            return f"found {match[1]} = {match[2]}, expected {expected}"
    return ""


def _read_table(path: Path, options: Mapping[str, click.Option]) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    text = ""
    try:
        text = path.read_text(encoding="utf-8")
        return tomllib.loads(text)
    except FileNotFoundError:
        raise UsageError(f"{path}: found no such file, expected options in TOML") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        why = _bare_word(text, options) or f"found something else than TOML: {error}"
        raise UsageError(f"{path}: {why}") from error
