"""What may have been meant by words that are no command: told, never done."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from pathlib import Path

__all__ = ["OPTIONS", "correction_of", "example_of"]

OPTIONS = {"--force": "--overwrite", "-f": "--overwrite", "-y": "--overwrite"}
"""What other programs call an option → what m2a does."""


def correction_of(words: Sequence[str], commands: Collection[str]) -> str | None:
    """The command line that was probably meant.

    Args:
        words: what followed `m2a`, of which the first is no command.
        commands: those that there are.

    Returns:
        A command line that begins with `m2a`; None where nothing comes close.
    """
    if words[0] in ("help", "version"):
        named = [word for word in words[1:] if word in commands] if words[0] == "help" else []
        return _line([*named[:1], f"--{words[0]}"])
    if words[0].startswith("-") and words[0] != "-":
        return _command_first(words, commands)
    if _is_picture(words[0]):
        return _line(["run", *words])
    close = get_close_matches(words[0].lower(), commands, n=1)
    if close:
        return _line([close[0], *words[1:]])
    # `m2a deblur photo.jpg`
    return _line(["run", *words[1:]]) if any(map(_is_picture, words[1:])) else None


def example_of(words: Sequence[str], help_text: str) -> str | None:
    """What to say to those who left out what a command needs.

    Args:
        words: what followed `m2a`, of which the first is the command.
        help_text: of the command, with its example.

    Returns:
        A sentence with a command line; None where the command has no example.
    """
    command, *rest = words
    # Not above: `m2a --help` does without the runtime.
    from m2a.runtime.manifest import CHECKPOINT_SUFFIXES

    if command == "export" and rest and Path(rest[0]).suffix in CHECKPOINT_SUFFIXES:
        return f"Did you mean `{_line([command, '--ckpt', *rest])}`?"
    examples = (line.strip() for line in help_text.splitlines())
    example = next((line for line in examples if line.startswith(f"m2a {command} ")), None)
    return f"Say it as in `{example}`." if example else None


def _command_first(words: Sequence[str], commands: Collection[str]) -> str | None:
    """Words that begin with an option, which stands behind the command."""
    for place, word in enumerate(words):
        if word in commands:
            return _line([word, *words[:place], *words[place + 1 :]])
    return _line(["run", *words]) if any(map(_is_picture, words[1:])) else None


def _is_picture(word: str) -> bool:
    """Whether a word can be what `m2a run` reads: something that is there, or named like it."""
    # Not above: `m2a --help` does not wait for the runtime.
    from m2a.runtime.decoding import INPUT_SUFFIXES
    from m2a.runtime.search import VIDEO_SUFFIXES

    if Path(word).suffix.lower() in (*INPUT_SUFFIXES, *VIDEO_SUFFIXES):
        return True
    try:
        return word == "-" or Path(word).exists()
    except OSError:
        return False


def _line(words: Sequence[str]) -> str:
    return shlex.join(["m2a", *words])
