"""What happens in the other process stays there, and its reason comes back."""

from __future__ import annotations

import sys
import textwrap

import pytest

from m2a.machine.separate_process import ask


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Calls `answer()` of a module with this source, found on this process's path alone."""
    monkeypatch.syspath_prepend(tmp_path)

    def call(source, *arguments, seconds=30):
        (tmp_path / "planted.py").write_text(textwrap.dedent(source))
        return ask("planted", "answer", *arguments, seconds=seconds)

    return call


def test_an_answer_comes_back_past_what_else_is_printed(asked):
    reply = asked(
        """
        import sys
        def answer(name):
            print("a library that greets", end="")
            print("and complains", file=sys.stderr)
            return {"name": name}
        """,
        "é",
    )
    assert reply.answer == {"name": "é"}
    assert (reply.failure, reply.log.strip()) == ("", "and complains")


def test_an_exception_is_a_failure_with_its_last_line(asked):
    reply = asked("def answer(): raise ImportError('libfoo.so.3 is not here')")
    assert reply.answer is None
    assert reply.failure == "ImportError: libfoo.so.3 is not here"


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_a_crash_is_a_failure_with_its_signal(asked):
    reply = asked(
        "import os, signal\ndef answer(): os.kill(os.getpid(), signal.SIGSEGV)",
    )
    assert reply.answer is None
    assert "SIGSEGV" in reply.failure


def test_a_silence_is_a_failure(asked):
    reply = asked("import time\ndef answer(): time.sleep(60)", seconds=1)
    assert reply.failure == "no answer in 1 s"


def test_an_exit_without_an_answer_is_a_failure(asked):
    assert asked("import os\ndef answer(): os._exit(0)").failure
