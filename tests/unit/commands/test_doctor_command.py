"""`m2a doctor`: what is printed, and the exit code."""

from __future__ import annotations

import json
import sys

import pytest
from click.testing import CliRunner

from m2a import __version__
from m2a.cli import main
from m2a.commands import doctor_command
from m2a.diagnosis.finding import broken, good, missing, not_applicable

GOOD = good("NumPy", "2.0")
MISSING = missing("CUDA driver", "none", "install it")
BROKEN = broken("working folder", "read-only", "work in another folder")


@pytest.fixture
def diagnosed(monkeypatch):
    """Runs `m2a doctor ARGS` where the examination finds what is given."""

    def run(*findings, arguments=()):
        monkeypatch.setattr(doctor_command, "examine", lambda bundle: iter(findings))
        return CliRunner().invoke(main, ["doctor", *arguments])

    return run


def test_what_is_missing_is_no_failure(diagnosed):
    result = diagnosed(GOOD, MISSING)
    assert result.exit_code == 0
    assert result.stderr == ""


def test_it_ends_with_the_counts_and_what_works(diagnosed):
    found = [good(topic, "1") for topic in ("libvips", "ONNX Runtime", "bundle", "ort-cpu")]
    found += [missing("ort-cuda", "none"), good("extra video", "av"), missing("extra eval", "none")]
    *_, counts, works = diagnosed(
        GOOD, *found, not_applicable("Jetson", "none")
    ).stdout.splitlines()
    assert counts == "6 good, 2 missing (optional), 0 broken"
    assert works == (
        "works on this machine: m2a run and m2a report with ort-cpu; m2a run on a video"
    )
    *_, counts, works = diagnosed(GOOD, BROKEN, *found[1:]).stdout.splitlines()
    assert counts.endswith("1 broken")
    assert works == "works on this machine: nothing before what is broken is mended"


def test_something_broken_is_a_failure_that_is_named(diagnosed):
    result = diagnosed(GOOD, BROKEN)
    assert result.exit_code == 1
    assert result.stderr == "m2a: broken: working folder\n"


def test_the_columns_are_aligned_and_the_remedy_stands_below(diagnosed):
    lines = diagnosed(GOOD, MISSING, BROKEN).stdout.splitlines()
    assert len(lines) == 7
    assert lines[0].index("2.0") == lines[1].index("none") == lines[3].index("read-only")
    assert lines[2].strip() == "-> install it"
    assert lines[2].index("->") == lines[0].index("2.0")
    assert "\x1b" not in "".join(lines)


def test_every_topic_fits_its_column():
    from m2a.diagnosis.packages import OPTIONAL

    longest = max(len(f"extra {extra}") for extra in OPTIONAL)
    assert max(longest, len("operating system")) < doctor_command._INDENT - 9


def test_on_a_terminal_long_findings_are_wrapped_and_remedies_are_not():
    finding = missing("topic", "word " * 40, "command " * 40)
    *found, remedy = doctor_command._lines(finding, width=80).splitlines()
    assert len(found) > 2
    assert all(line.startswith(" " * doctor_command._INDENT) for line in found[1:])
    assert len(remedy) > 300


def test_json_is_one_object_on_standard_output(diagnosed):
    result = diagnosed(GOOD, BROKEN, arguments=["--json"])
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["m2a"] == __version__
    assert report["broken"] == ["working folder"]
    assert report["counts"] == {"good": 1, "missing": 0, "broken": 1, "n/a": 0}
    assert report["works"] == []
    assert report["findings"][1] == {
        "topic": "working folder",
        "status": "broken",
        "found": "read-only",
        "remedy": "work in another folder",
    }


def test_this_machine_with_a_whole_bundle_is_in_order(tiny_bundle):
    result = CliRunner().invoke(main, ["doctor", "--bundle", str(tiny_bundle)])
    assert result.exit_code == 0, result.output
    assert "CPUExecutionProvider opened" in result.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="/proc refuses even the administrator")
def test_a_read_only_folder_is_found(monkeypatch):
    monkeypatch.chdir("/proc/self")
    result = CliRunner().invoke(main, ["doctor", "--json"])
    assert result.exit_code == 1
    assert "working folder" in json.loads(result.stdout)["broken"]
