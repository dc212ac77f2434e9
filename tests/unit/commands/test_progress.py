"""Progress where there is no terminal: plain lines on standard error, nothing else."""

from __future__ import annotations

import sys

from m2a.commands.progress import progress_bar


def test_without_a_terminal_every_report_is_a_line(capsys):
    with progress_bar(10, "Training") as bar:
        bar.at(5, "loss 0.5")
        bar.line("[validation] gain +1.00 dB")
        bar.at(10)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "Training 5/10  loss 0.5\n[validation] gain +1.00 dB\nTraining 10/10\n"


def test_on_a_terminal_the_bar_shows_what_is_done(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with progress_bar(10, "Training") as bar:
        bar.at(10, "loss 0.5")
    out, err = capsys.readouterr()
    assert out == ""
    assert "━" in err
    assert "10/10" in err
    assert "loss 0.5" in err


def test_a_hidden_bar_leaves_only_lines(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar(10, "Deblurring", quiet=True, hidden=True) as bar:
        bar.at(5)
        bar.line("one failed")
    assert capsys.readouterr() == ("", "one failed\n")


def test_quiet_leaves_out_the_lines_that_stand_for_the_bar(capsys):
    with progress_bar(10, "Deblurring", quiet=True) as bar:
        bar.at(5)
        bar.line("one failed")
        bar.at(10)
    assert capsys.readouterr() == ("", "one failed\n")


def test_a_line_is_written_as_it_is(capsys):
    text = "[red]:smile:[/red] " + "x" * 200
    with progress_bar(1, "Deblurring", quiet=True) as bar:
        bar.line(text)
    assert capsys.readouterr().err == text + "\n"


def test_standard_output_that_is_no_terminal_stays_apart_from_the_bar(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar(1, "Deblurring"):
        sys.stdout.write('{"status": "done"}\n')
    assert capsys.readouterr().out == '{"status": "done"}\n'


def test_the_time_left_and_an_unknown_total_are_shown(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with progress_bar(10, "Deblurring", time_left=True) as bar:
        bar.at(4)
    assert "left" in capsys.readouterr().err
    with progress_bar(None, "Deblurring", quiet=True) as bar:
        bar.at(4)
    assert "4/?" in capsys.readouterr().err
