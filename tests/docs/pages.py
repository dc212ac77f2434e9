"""The pages of the documentation, and the blocks of code on them.

The line above a block, in italics, says what becomes of it, to the reader and to the tests:
`*Not run: REASON.*` or `*Exits with N: REASON.*`; a block without one ends with 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]

LANGUAGES = ("sh", "python", "toml")

BY_CI = {f"<!-- {which} command -->" for which in ("first", "second")}
"""Above the blocks of the README that `.ci/run` runs, each in an environment of its own."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A block of code.

    Attributes:
        page: relative to the repository.
        line: its first line.
        language: what stands after the fence.
        code: its content.
        status: the text in italics above it, or the comment; empty where there is none.
    """

    page: str
    line: int
    language: str
    code: str
    status: str

    @property
    def not_run(self) -> str | None:
        """Why it is not run; None where it is."""
        if self.status in BY_CI:
            return "run by .ci/run"
        found = re.search(r"Not run: (.+?)\.?$", self.status)
        return found[1] if found else None

    @property
    def exit_code(self) -> int:
        """What it is meant to end with."""
        found = re.search(r"Exits with (\d+): ", self.status)
        return int(found[1]) if found else 0

    @property
    def lines(self) -> list[str]:
        """The commands of a shell block."""
        return self.code.strip().splitlines()

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page in their order, without Sphinx' directives."""
    found = []
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    for number, token in enumerate(tokens):
        if token.type != "fence" or token.info.startswith("{"):
            continue
        found.append(
            Block(
                page=page.relative_to(ROOT).as_posix(),
                line=token.map[0] + 1,
                language=token.info,
                code=token.content,
                status=_status(tokens[max(0, number - 3) : number]),
            )
        )
    return found


def _status(before) -> str:
    if before and before[-1].type == "html_block":
        return before[-1].content.strip()
    if [token.type for token in before] != ["paragraph_open", "inline", "paragraph_close"]:
        return ""
    text = " ".join(before[1].content.split())
    return text[1:-1] if re.fullmatch(r"\*[^*]+\*", text) else ""


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
