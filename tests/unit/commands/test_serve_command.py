"""`m2a serve`: what it is told, what it says, and how it ends."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest
from click.testing import CliRunner
from pictures import noise, png

from m2a.cli import main
from m2a.machine.cores import usable_cores

HEADERS = {"Content-Type": "image/png"}


def refused(*options, code, words, **environment):
    result = CliRunner(env=environment).invoke(main, ["serve", *options])
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit)
    assert words in result.stderr.splitlines()[-1]


def test_without_the_extra_it_says_which(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "fastapi" else find(name)
    )
    refused(code=1, words="needs the package 'fastapi'")
    refused(code=1, words="pip install -e '.[serve]'")


def test_what_cannot_be_meant_is_refused(tmp_path):
    refused("--token-file", str(tmp_path / "none"), code=2, words="found no such file")
    refused("--token-file", str(tmp_path), code=2, words="the token cannot be read: Is a dir")
    (tmp_path / "empty").write_text("\n")
    refused("--token-file", str(tmp_path / "empty"), code=2, words="the token is empty")
    refused(code=2, words="the token is empty", M2A_TOKEN="")
    refused("--allow-origin", "*", code=2, words="found the origin '*'")
    refused("--queue", "-1", code=2, words="'--queue'")
    refused("--timeout", "0", code=2, words="'--timeout'")
    refused("--timeout", "inf", code=2, words="seconds: found inf, expected more than 0 and at")
    refused("--body-timeout", "1e308", code=2, words="body_seconds: found 1e+308, expected more")


def test_a_port_that_is_taken_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused("--port", port, code=1, words=f"cannot listen on 127.0.0.1 port {port}")
    refused("--host", "192.0.2.1", "--port", "0", code=1, words="cannot listen on 192.0.2.1")
    refused("--host", "a..b", code=1, words="cannot listen on a..b port 8077: it can be no machine")


@contextlib.contextmanager
def served(*options, program=("-m", "m2a"), **environment):
    """A running `m2a serve`: its process, its address, and what it said until then."""
    command = [sys.executable, *program, "serve", "--port", "0", *options]
    kept = {name: value for name, value in os.environ.items() if name != "M2A_TOKEN"}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=kept | environment
    ) as process:
        said = []
        try:
            for line in process.stderr:
                said.append(line)
                if line.startswith("http://"):
                    break
            yield process, said[-1].split(": ")[0], said
        finally:
            if process.poll() is None:
                process.terminate()


def test_it_serves_until_it_is_told_to_stop_and_ends_well(tmp_path):
    token = tmp_path / "token"
    token.write_text("from the file\n".replace(" ", "-"))
    photo = png(noise(3, 8, height=64, width=64))
    with served("--token-file", str(token), M2A_TOKEN="ignored") as (process, address, said):
        workers = min(usable_cores(), 4)
        counted = "1 worker" if workers == 1 else f"{workers} workers"
        assert said[-1].endswith(f": {counted} on ort-cpu\n")
        headers = HEADERS | {"Authorization": "Bearer from-the-file"}
        with httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
            answer = client.post("/v1/deblur", content=photo, headers=headers)
            assert answer.status_code == 200
            assert client.post("/v1/deblur", content=photo, headers=HEADERS).status_code == 401
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stderr.read() == "stopped\n"


def test_to_all_without_a_token_it_warns():
    with served("--host", "0.0.0.0", "--workers", "1") as (process, address, said):
        assert "m2a: no token: whoever reaches the service may use it\n" in said
        local = address.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{local}/readyz", trust_env=False).json()["workers"] == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


SLOW = """
import sys, time
from m2a.cli import main
from m2a.commands import serve_command
from m2a.runtime.deblurrer import Deblurrer

def compute(*_, **__):
    print("computes", file=sys.stderr, flush=True)
    time.sleep(30)

serve_command._warm_up = lambda _: None
Deblurrer.__call__ = compute
main()
"""
"""`m2a serve` whose photos take half a minute."""


@pytest.mark.skipif(sys.platform == "win32", reason="a console's Ctrl-C reaches pytest too")
def test_a_second_interrupt_ends_it_while_it_computes():
    def post():
        with contextlib.suppress(httpx.TransportError):
            httpx.post(
                f"{address}/v1/deblur",
                content=png(noise(3, 8, height=64, width=64)),
                headers=HEADERS,
                trust_env=False,
                timeout=30,
            )

    with served("--workers", "1", program=("-c", SLOW)) as (process, address, _):
        client = threading.Thread(target=post)
        client.start()
        assert process.stderr.readline() == "computes\n"
        process.send_signal(signal.SIGINT)
        port = int(address.rpartition(":")[2])
        with contextlib.suppress(ConnectionRefusedError):
            while True:  # until it takes no more: the first was heard
                socket.create_connection(("127.0.0.1", port)).close()
                time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 130
        assert process.stderr.read() == "m2a: interrupted\n"
        client.join()
