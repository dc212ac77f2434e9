"""What `m2a run` says of a picture and of many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from m2a.errors import on_one_line
from m2a.runtime.batch import DONE, FAILED, SKIPPED, Outcome


def fields_of(outcome: Outcome) -> dict[str, Any]:
    """The JSON object of a picture: its names, and what there is to tell.

    All have their `status`; one that is done has `coverage`, `backend` and `seconds` too, and one
    that failed its `error`.
    """
    fields: dict[str, Any] = {
        "status": outcome.status,
        "input": str(outcome.source),
        "output": None if outcome.output is None else str(outcome.output),
    }
    if outcome.status == DONE:
        fields["coverage"] = outcome.coverage
        fields["backend"] = outcome.backend
        fields["seconds"] = dict(outcome.seconds)
    if outcome.reason is not None:
        fields["error"] = outcome.reason
    return fields


def echo_outcome(outcome: Outcome) -> None:
    """Says on standard error what became of one picture that did not fail."""
    name = on_one_line(outcome.output or "standard output")
    if outcome.status == SKIPPED:
        click.echo(f"{name}: exists already, skipped", err=True)
    elif not outcome.coverage:
        click.echo(f"{name}: no motion blur found, no pixel was restored", err=True)
    else:
        total = sum(outcome.seconds.values())
        click.echo(
            f"{name}: {outcome.coverage:.1%} of the pixels restored in {total:.2f} s "
            f"on {outcome.backend}",
            err=True,
        )


def summary_of(counts: Mapping[str, int], *, left: int, seconds: float) -> str:
    """One line for many pictures.

    Args:
        counts: pictures per status.
        left: pictures that were not finished.
        seconds: wall time of all.
    """
    parts = [f"{counts.get(status, 0)} {status}" for status in (DONE, SKIPPED, FAILED)]
    if left:
        parts.append(f"{left} left")
    return f"{', '.join(parts)} in {seconds:.1f} s"
