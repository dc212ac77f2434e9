"""A check that fails, hangs or exits becomes a finding; the caller goes on."""

from __future__ import annotations

import threading
import time

import pytest

from m2a.diagnosis.finding import Status, good, isolated


def only(findings):
    (finding,) = findings
    return finding


def test_the_findings_of_a_check_are_handed_on():
    findings = (good("a", "1"), good("b", "2"))
    assert isolated("a", lambda: findings, seconds=5) == findings


@pytest.mark.parametrize("error", [ValueError("no\nsuch thing"), SystemExit("no such thing")])
def test_an_error_is_a_broken_finding_on_one_line(error):
    def check():
        raise error

    finding = only(isolated("topic", check, seconds=5))
    assert (finding.topic, finding.status) == ("topic", Status.BROKEN)
    assert f"{type(error).__name__}: no such thing" in finding.found
    assert "m2a --version" in finding.remedy


def test_an_error_after_a_first_finding_is_not_swallowed():
    def check():
        yield good("topic", "so far")
        raise OSError("then")

    assert only(isolated("topic", check, seconds=5)).status is Status.BROKEN


def test_a_check_that_hangs_is_left_behind():
    never = threading.Event()
    start = time.monotonic()
    finding = only(isolated("topic", lambda: [never.wait(60)], seconds=0.1))
    assert time.monotonic() - start < 10
    never.set()
    assert finding.status is Status.BROKEN
    assert "no answer in 0.1 s" in finding.found
