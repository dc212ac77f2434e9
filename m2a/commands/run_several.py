"""`m2a run` on several pictures: progress, what failed, and the summary."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Generator
from contextlib import closing, nullcontext
from pathlib import Path

import click

from m2a.commands.interrupts import HeldInterrupt, held_interrupts
from m2a.commands.opening import Opening
from m2a.commands.options import print_json
from m2a.commands.run_report import Tally, fields_of, line_of
from m2a.errors import on_one_line
from m2a.runtime.batch import check_plan, deblur_files
from m2a.runtime.deblurrer import Deblurrer
from m2a.runtime.journal import Journal
from m2a.runtime.outcomes import FAILED, Outcome
from m2a.runtime.plan import Plan
from m2a.runtime.settings import Settings

__all__ = ["run_several"]


def run_several(
    plan: Plan,
    folder: Path,
    settings: Settings,
    opening: Opening,
    *,
    verbose: bool,
    as_json: bool,
) -> int:
    """Deblurs all pictures of a plan; one that fails does not stop the others.

    Args:
        plan: the pictures.
        folder: that is written into, where the journal of a run in place lies.
        settings: how files are read and written.
        opening: the bundle, which is opened once, if there is anything to do.
        verbose: say a line of each picture, and not only of those that failed.
        as_json: print an object for each on standard output.

    Returns:
        The exit code.

    Raises:
        M2AError: nothing was begun.
    """
    check_plan(plan, settings)
    in_place = any(job.in_place for job in plan.jobs)
    with Journal(folder) if in_place else nullcontext() as journal:
        return _run(plan, settings, opening, journal, verbose=verbose, as_json=as_json)


def _run(
    plan: Plan,
    settings: Settings,
    opening: Opening,
    journal: Journal | None,
    *,
    verbose: bool,
    as_json: bool,
) -> int:
    # Not above: one photo shall not wait for the import of rich.
    from m2a.commands.progress import progress_bar

    open_once = functools.cache(opening.open)
    if not (settings.skip_existing and plan.complete):
        open_once()  # says which bundle it takes, where no bar is in the way yet
    total = len(plan.jobs) + len(plan.unreadable)
    tally = Tally(total)
    began = time.perf_counter()
    try:
        # On one terminal the objects and the bar would write over each other.
        hidden = plan.alone or (as_json and sys.stdout.isatty())
        with (
            held_interrupts() as interrupt,
            progress_bar(total, "Deblurring", quiet=True, hidden=hidden, time_left=True) as bar,
            # Whatever happens here, the file that is being written is finished before the journal
            # is let go.
            closing(_outcomes(plan, settings, open_once, journal, interrupt)) as outcomes,
        ):
            for outcome in outcomes:
                tally.add(outcome)
                if as_json:
                    print_json(fields_of(outcome))
                if outcome.reason is not None:
                    bar.line(f"m2a: {on_one_line(outcome.reason)}")
                elif verbose or (plan.alone and not as_json):
                    bar.line(line_of(outcome))
                bar.at(tally.counts.total(), tally.figures(outcome))
            if tally.left:  # after the last picture there is nothing to interrupt
                interrupt.raise_if_came()
    except KeyboardInterrupt:
        if journal is not None:
            again = "; the same command does the rest, and no photo twice"
        elif settings.overwrite:
            again = ""
        else:
            again = "; --skip-existing does the rest another time"
        click.echo(tally.summary(seconds=time.perf_counter() - began) + again, err=True)
        raise
    for path in plan.passed_over.others if verbose else ():
        click.echo(f"{on_one_line(path)}: passed over, no picture by its name", err=True)
    if not plan.alone:
        summary = tally.summary(seconds=time.perf_counter() - began)
        click.echo("; ".join(filter(None, [summary, str(plan.passed_over)])), err=True)
    _end_journal(journal, tally)
    return 1 if tally.counts[FAILED] else 0


def _end_journal(journal: Journal | None, tally: Tally) -> None:
    """Removes the journal where all is done, and says what it was and is good for."""
    if journal is not None:
        if not tally.counts[FAILED]:
            journal.remove()
        elif not journal.empty:
            click.echo(
                f"m2a: {on_one_line(journal.path)} tells the same command which photos are done; "
                "delete it to deblur them again",
                err=True,
            )
    if tally.replaced:
        click.echo(
            f"m2a: {tally.replaced} of the skipped had been replaced already by a run that was not "
            "finished",
            err=True,
        )


def _outcomes(
    plan: Plan,
    settings: Settings,
    open_deblurrer: Callable[[], Deblurrer],
    journal: Journal | None,
    interrupt: HeldInterrupt,
) -> Generator[Outcome, None, None]:
    for folder, why in plan.unreadable.items():
        yield Outcome(source=folder, output=None, status=FAILED, reason=f"{folder}: {why}")
    yield from deblur_files(
        plan.jobs,
        settings,
        open_deblurrer,
        journal=journal,
        going_on=lambda: not interrupt.came,
    )
