"""Progress of long work on standard error: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class Bar:
    """The progress of one piece of work; made by `progress_bar`."""

    def __init__(
        self, console: Console, progress: Progress, total: int | None, label: str, *, quiet: bool
    ) -> None:
        self._console, self._progress = console, progress
        self._label, self._total, self._quiet = label, total, quiet
        self._task = progress.add_task(label, total=total, figures="")

    def at(self, done: int, figures: str = "") -> None:
        """Shows how much is done, and a few figures beside it."""
        self._progress.update(self._task, completed=done, figures=figures)
        if not _draws(self._console) and not self._quiet:
            self.line(f"{self._label} {done}/{self._total}  {figures}".rstrip())

    def line(self, text: str) -> None:
        """Writes a line that stays."""
        # A `Text`, for rich would take :name: in a string for an emoji.
        self._console.print(Text(text), highlight=False, soft_wrap=True)


def _draws(console: Console) -> bool:
    return console.is_terminal and not console.is_dumb_terminal


@contextmanager
def progress_bar(
    total: int | None,
    label: str,
    *,
    quiet: bool = False,
    hidden: bool = False,
    time_left: bool = False,
) -> Iterator[Bar]:
    """Yields the bar of `total` steps, None where no one knows; it ends with the block.

    Where there is no terminal, `quiet` leaves out the plain lines that stand for the bar; `hidden`
    leaves out the bar on a terminal; `time_left` adds an estimate to it.
    """
    console = Console(stderr=True)
    columns: tuple[ProgressColumn, ...] = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
    )
    if time_left:
        columns += (TimeRemainingColumn(compact=True), TextColumn("left"))
    with Progress(
        *columns,
        console=console,
        disable=hidden or not _draws(console),
        # rich would send to standard error what the program writes for a file or a pipe.
        redirect_stdout=False,
    ) as progress:
        yield Bar(console, progress, total, label, quiet=quiet)
