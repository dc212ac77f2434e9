"""Fields of an untrusted JSON object, checked as they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from types import NoneType
from typing import Any, NoReturn

__all__ = ["JsonFields"]

_NAMES: Mapping[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a string",
    int: "an integer",
    float: "a number",
    NoneType: "null",
}


class JsonFields:
    """A JSON object; whatever is asked of it and is not there raises the error of its file.

    Attributes:
        content: the object itself.
    """

    def __init__(
        self, content: object, *, refuse: Callable[[str], Exception], name: str = ""
    ) -> None:
        """Takes any JSON value.

        Args:
            content: what was parsed.
            refuse: makes the error of a message that names the field, what was expected, and
                what was found.
            name: of the object in the file, with a dot at the end; empty for the whole file.
        """
        self._refuse, self._name = refuse, name
        if not isinstance(content, dict):
            raise refuse(f"{name.rstrip('.') or 'the whole'} is not a JSON object")
        self.content: dict[str, Any] = content

    def get(self, key: str, *types: type) -> Any:  # noqa: ANN401 - one of `types`
        """A value of one of the types; true and false are no numbers."""
        value = self.content.get(key)
        known = key in self.content and not isinstance(value, bool)
        if not known or not isinstance(value, types):
            self.refuse(key, " or ".join(_NAMES[kind] for kind in types))
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false; `default` where the object does not say."""
        value = self.content.get(key, default)
        if not isinstance(value, bool):
            self.refuse(key, "true or false")
        return value

    def number(self, key: str) -> float:
        """An integer or a fraction, as a float."""
        value = self.get(key, float, int)
        try:
            return float(value)
        except OverflowError:  # JSON's integers have no end
            self.refuse(key, "a number")

    def section(self, key: str) -> JsonFields:
        """An object within this one."""
        return JsonFields(self.get(key, dict), refuse=self._refuse, name=f"{self._name}{key}.")

    def table(self, key: str, *types: type) -> dict[str, Any]:
        """An object whose values are all of one of the types."""
        section = self.section(key)
        return {name: section.get(name, *types) for name in section.content}

    def path(self, key: str) -> PurePosixPath:
        """A relative path with forward slashes, which does not leave the folder of the file."""
        path = PurePosixPath(text := self.get(key, str))
        foreign = any(sign in text for sign in "\\:") or not text.isprintable()
        if path.is_absolute() or ".." in path.parts or foreign:
            raise self._refuse(f"{self._name}{key} {text!r:.60} leaves the folder of the file")
        return path

    def refuse(self, key: str, expected: str) -> NoReturn:
        """Raises the file's error for a value that is not as expected."""
        found = repr(self.content[key])[:60] if key in self.content else "nothing"
        raise self._refuse(f"{self._name}{key} must be {expected}, found {found}")
