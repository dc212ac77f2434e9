"""Progress of long work on standard error: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
)


class Bar:
    """The progress of one piece of work; made by `progress_bar`."""

    def __init__(self, console: Console, progress: Progress, total: int, label: str) -> None:
        self._console, self._progress = console, progress
        self._label, self._total = label, total
        self._task = progress.add_task(label, total=total, figures="")

    def at(self, done: int, figures: str = "") -> None:
        """Shows how much is done, and a few figures beside it."""
        self._progress.update(self._task, completed=done, figures=figures)
        if not _draws(self._console):
            self.line(f"{self._label} {done}/{self._total}  {figures}".rstrip())

    def line(self, text: str) -> None:
        """Writes a line that stays."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def _draws(console: Console) -> bool:
    return console.is_terminal and not console.is_dumb_terminal


@contextmanager
def progress_bar(total: int, label: str) -> Iterator[Bar]:
    """Yields the bar of `total` steps; it ends with the block."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=console, disable=not _draws(console)) as progress:
        yield Bar(console, progress, total, label)
