"""A message on the page `troubleshooting.md` is one that m2a can still print."""

from __future__ import annotations

import ast
import re

import pytest
from pages import ROOT

PAGE = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
MESSAGES = re.findall(r"(?m)^### `(.+)`$", PAGE)
ENTRIES = re.split(r"(?m)^###? ", PAGE)[1:]

GAP = "\N{HORIZONTAL ELLIPSIS}"
"""What stands on the page for a name or a number, and here for what an f-string fills in."""


def templates():
    """The texts of the code, with a gap for each value that is filled in."""
    for path in sorted((ROOT / "m2a").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(
                    part.value if isinstance(part, ast.Constant) else GAP for part in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


TEMPLATES = list(templates())


def pattern_of(message: str) -> re.Pattern[str]:
    """A gap on the page stands for any text, but for no end of a message."""
    return re.compile(".*?".join(map(re.escape, message.split(GAP))))


def test_there_are_messages():
    assert len(MESSAGES) > 60
    assert len(set(MESSAGES)) == len(MESSAGES)


@pytest.mark.parametrize("message", MESSAGES)
def test_the_message_is_in_the_code(message):
    assert any(pattern_of(message).search(template) for template in TEMPLATES)


def test_a_message_that_is_not_in_the_code_is_noticed():
    changed = MESSAGES[0].replace("found", "saw")
    assert not any(pattern_of(changed).search(template) for template in TEMPLATES)


def test_every_heading_of_the_third_order_is_a_message():
    assert len(re.findall(r"(?m)^### ", PAGE)) == len(MESSAGES)


def test_every_message_has_a_cause_or_a_remedy():
    bare = [entry for entry in ENTRIES if entry.startswith("`") and len(entry.split("\n\n")) < 2]
    assert bare == []
