"""How long a connection may take over its headers and its answers, and how many there may be."""

from __future__ import annotations

import time
from contextlib import ExitStack

import httpx
import pytest
import uvicorn
from service import Inverting, connection, eventually, read_all, running, running_server

from m2a.serving.connections import timed_protocol
from m2a.serving.settings import Limits


def large_answers(limits):
    """A server whose answers have the bytes that the path says, or more than the system takes."""

    async def app(scope, receive, send):
        body = bytes(int(scope["path"][1:] or 2**26))
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})

    protocol = timed_protocol(limits)
    return uvicorn.Server(uvicorn.Config(app, http=protocol, lifespan="off", ws="none"))


@pytest.mark.parametrize("said", [b"", b"GET /healthz HTTP/1.1\r\nHost: local"])
def test_headers_must_come_in_time(said):
    with running(Inverting(), limits=Limits(header_seconds=0.2)) as client:
        with connection(client) as line:
            line.sendall(said)
            assert read_all(line) == b""
        assert client.get("/healthz").status_code == 200


def test_also_those_of_the_next_request():
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    limits = Limits(header_seconds=0.2)
    with running(Inverting(), limits=limits) as client, connection(client) as line:
        line.sendall(request)
        found = b""
        while b'"ok"' not in found:  # the body may come after the headers
            chunk = line.recv(65536)
            assert chunk
            found += chunk
        line.sendall(request[:-10])
        assert read_all(line) == b""


def test_answers_must_be_taken():
    server = large_answers(Limits(unread_seconds=0.3))
    with running_server(server) as client, connection(client) as line:
        line.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert line.recv(1)
        eventually(lambda: not server.server_state.connections)
        assert len(read_all(line)) < 2**26


def test_whoever_takes_them_gets_all():
    with running_server(large_answers(Limits(unread_seconds=0.05))) as client:
        assert len(client.get("/").content) == 2**26


def test_the_time_begins_anew_with_every_answer():
    """What is unread of a second, larger one is more than was unread of the first."""
    with running_server(large_answers(Limits(unread_seconds=0.5))) as client:
        assert len(client.get(f"/{2**24}").content) == 2**24
        with client.stream("GET", f"/{2**26}") as answer:
            found = 0
            for chunk in answer.iter_bytes(2**20):
                found += len(chunk)
                time.sleep(0.015)
        assert found == 2**26


def test_too_many_are_503():
    with running(Inverting(), limits=Limits(connections=5)) as client:
        with ExitStack() as many:
            for _ in range(6):
                many.enter_context(connection(client))
            eventually(lambda: len(client.server.server_state.connections) >= 6)
            assert httpx.get(f"{client.base_url}/healthz", trust_env=False).status_code == 503
        eventually(lambda: len(client.server.server_state.connections) < 5)
        assert client.get("/healthz").status_code == 200
