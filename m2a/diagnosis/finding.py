"""What a check found, and how a check is kept from taking the others down with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

REPORT = "report this line together with the output of: m2a --version"
"""The remedy where a check itself failed."""


class Status(Enum):
    """The judgement on one thing.

    `GOOD`: m2a can use it. `MISSING`: it is not here or cannot be told, and m2a works without
    it. `BROKEN`: m2a needs it and cannot use it, or it is installed and does not work.
    `NOT_APPLICABLE`: it is nothing that this machine could have.
    """

    GOOD = "good"
    MISSING = "missing"
    BROKEN = "broken"
    NOT_APPLICABLE = "n/a"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of a diagnosis.

    Attributes:
        topic: what was looked at.
        status: the judgement.
        found: what was found, on one line.
        remedy: the command or step that mends it, or empty where nothing needs mending.
    """

    topic: str
    status: Status
    found: str
    remedy: str = ""


Check = Callable[[], Iterable[Finding]]
"""Looks at one topic, or at a few that belong together."""


def good(topic: str, found: str, remedy: str = "") -> Finding:
    """Returns a `GOOD` finding; a remedy says what would be better still."""
    return Finding(topic=topic, status=Status.GOOD, found=_one_line(found), remedy=remedy)


def missing(topic: str, found: str, remedy: str = "") -> Finding:
    """Returns a `MISSING` finding."""
    return Finding(topic=topic, status=Status.MISSING, found=_one_line(found), remedy=remedy)


def broken(topic: str, found: str, remedy: str) -> Finding:
    """Returns a `BROKEN` finding."""
    return Finding(topic=topic, status=Status.BROKEN, found=_one_line(found), remedy=remedy)


def not_applicable(topic: str, found: str) -> Finding:
    """Returns a `NOT_APPLICABLE` finding."""
    return Finding(topic=topic, status=Status.NOT_APPLICABLE, found=_one_line(found))


def isolated(topic: str, check: Check, *, seconds: float) -> tuple[Finding, ...]:
    """Runs a check such that neither an error nor a silence of its source reaches the caller.

    Args:
        topic: the topic of the finding where the check does not end with its own.
        check: the check.
        seconds: how long to wait for it. A check that takes longer is left behind in its thread,
            which does not keep the program from ending.

    Returns:
        The check's findings, or one that is `BROKEN` and says why there are none.
    """
    outcome: list[tuple[Finding, ...]] = []

    def run() -> None:
        try:
            outcome.append(tuple(check()))
        except BaseException as error:  # a package may even exit when it is imported
            reason = f"the check failed: {type(error).__name__}: {error}"
            outcome.append((broken(topic, reason, REPORT),))

    # A thread, because a folder on a dead network mount answers neither an error nor a signal.
    thread = threading.Thread(target=run, name=f"m2a doctor: {topic}", daemon=True)
    thread.start()
    thread.join(seconds)
    if outcome:
        return outcome[0]
    return (broken(topic, f"the check gave no answer in {seconds:g} s", REPORT),)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]
