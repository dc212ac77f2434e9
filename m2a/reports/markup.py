"""Filling a template such that no text becomes markup.

`string.Template` and `html.escape` are enough for a page of four fragments without logic: whoever
installs m2a installs no template engine. What is not `Markup` is escaped, whatever its type.
"""

from __future__ import annotations

import functools
import html
from collections.abc import Iterable
from importlib import resources
from string import Template

from m2a.errors import on_one_line

__all__ = ["Markup", "fill", "joined", "read_template"]


class Markup(str):
    """HTML, and not a text to be shown."""

    __slots__ = ()


def fill(template: str, **values: object) -> Markup:
    """Fills a template's placeholders, `$name`.

    Args:
        template: HTML. An attribute that holds a placeholder is in double quotes.
        values: name → `Markup`, taken as it is, or anything else, whose text is escaped; control
            characters, and those that turn the direction of writing, as Python escapes them.

    Raises:
        KeyError: a placeholder has no value.
    """
    return Markup(Template(template).substitute({name: _safe(v) for name, v in values.items()}))


def joined(parts: Iterable[Markup]) -> Markup:
    """Markup after markup."""
    return Markup("\n".join(parts))


@functools.cache
def read_template(name: str, *, package: str = "m2a.reports") -> str:
    """A file of a package's folder `templates`, its lines ended by "\\n" alone."""
    text = (resources.files(package) / "templates" / name).read_text(encoding="utf-8")
    return "\n".join(text.splitlines()) + "\n"


def _safe(value: object) -> str:
    return value if isinstance(value, Markup) else html.escape(on_one_line(value))
