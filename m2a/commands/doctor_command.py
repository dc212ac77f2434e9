"""`m2a doctor`: what of this machine and installation can m2a use?"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from m2a._version import __version__
from m2a.commands.options import bundle_option, json_option, print_json
from m2a.diagnosis.examination import examine
from m2a.diagnosis.finding import Finding, Status
from m2a.diagnosis.summary import counts_of, summary_line, works

_COLOURS = {
    Status.GOOD: "green",
    Status.MISSING: "yellow",
    Status.BROKEN: "red",
    Status.NOT_APPLICABLE: "white",
}

_INDENT = 26
"""Columns before what was found: the status and the topic."""


@click.command("doctor")
@bundle_option
@json_option
@click.pass_context
def command(ctx: click.Context, bundle: Path | None, as_json: bool) -> None:
    """Look at all that m2a builds on: good, missing or broken; exit 1 where something is broken.

    Execution providers are opened and compute, folders are written to, the bundle's files are
    hashed. "Missing" is what m2a works without, "n/a" what this machine cannot have. Below what is
    not good stands what mends it.

    \b
    Example:
      m2a doctor
    """
    findings = []
    for finding in examine(bundle):
        findings.append(finding)
        if not as_json:
            click.echo(_lines(finding, width=_width()))
    if as_json:
        print_json(_to_json(findings))
    else:
        can = "; ".join(works(findings)) or "nothing before what is broken is mended"
        click.echo(f"{summary_line(findings)}\nworks on this machine: {can}")
    topics = _broken(findings)
    if topics:
        click.echo(f"m2a: broken: {', '.join(topics)}", err=True)
        ctx.exit(1)


def _lines(finding: Finding, *, width: int | None) -> str:
    status = click.style(f"{finding.status.value:8}", fg=_COLOURS[finding.status])
    found = finding.found
    if width is not None:
        gap = " " * _INDENT
        found = click.wrap_text(found, width, initial_indent=gap, subsequent_indent=gap).lstrip()
    text = f"{status} {finding.topic:{_INDENT - 10}} {found}"
    # Never wrapped: it is there to be copied.
    return f"{text}\n{'':{_INDENT}}-> {finding.remedy}" if finding.remedy else text


def _width() -> int | None:
    """The terminal's, or None where there is none: then each finding keeps to its line."""
    return max(shutil.get_terminal_size().columns, 60) if sys.stdout.isatty() else None


def _broken(findings: Iterable[Finding]) -> list[str]:
    return [finding.topic for finding in findings if finding.status is Status.BROKEN]


def _to_json(findings: Sequence[Finding]) -> dict[str, object]:
    return {
        "m2a": __version__,
        "findings": [{**vars(finding), "status": finding.status.value} for finding in findings],
        "broken": _broken(findings),
        "counts": counts_of(findings),
        "works": works(findings),
    }
