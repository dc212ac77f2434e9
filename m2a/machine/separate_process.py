"""Questions asked in a process of their own: what crashes or hangs there, crashes or hangs there.

Native libraries of mismatched versions end the process that loads them, and a driver in a bad
state never answers.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import m2a

_PROGRAM = """
import sys
request = sys.argv[1]
sys.path[:] = sys.argv[2:]
import importlib, json
module, function, arguments = json.loads(request)
answer = getattr(importlib.import_module(module), function)(*arguments)
sys.stdout.write("\\n" + json.dumps(answer) + "\\n")
"""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came of a question.

    Attributes:
        answer: the function's result, or None where there is none.
        failure: why there is none, in words; empty where there is an answer.
        log: everything that the process wrote on standard error.
    """

    answer: Mapping[str, Any] | None = None
    failure: str = ""
    log: str = field(default="", repr=False)


def ask(module: str, function: str, *arguments: str, seconds: float) -> Reply:
    """Calls a function in a new Python process that finds the same packages as this one.

    Args:
        module: full name of the module.
        function: a function in it that returns a JSON object.
        arguments: its positional arguments.
        seconds: after which the process is ended.
    """
    # m2a's own folder comes last: an import hook that finds it here may not be set there.
    places = [*sys.path, str(Path(m2a.__file__).resolve().parent.parent)]
    request = json.dumps([module, function, arguments])
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, request, *places],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Reply(failure=f"no answer in {seconds:g} s")
    except OSError as error:
        return Reply(failure=f"cannot start {sys.executable}: {error.strerror}")
    if done.returncode:
        return Reply(failure=_reason(done.returncode, done.stderr), log=done.stderr)
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return Reply(failure="the process ended without an answer", log=done.stderr)
    return Reply(answer=answer, log=done.stderr)


def _reason(code: int, log: str) -> str:
    if code < 0:
        return f"the process was ended by {_signal_name(-code)}"
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1] if lines else f"the process ended with code {code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
