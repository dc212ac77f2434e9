"""What one client, and all together, may take; and that nothing stays taken."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from pictures import noise, png
from service import Inverting, connection, eventually, read_all, running

from m2a.errors import UsageError
from m2a.serving.settings import Limits, Settings

PHOTO = png(noise(3, 8))
HEADERS = {"Content-Type": "image/png"}


def post(client, content=PHOTO, **headers):
    return client.post("/v1/deblur", content=content, headers=HEADERS | headers)


def metric(client, name):
    lines = client.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


def begin(line, *headers, length=None):
    fields = ["POST /v1/deblur HTTP/1.1", "Host: localhost", "Content-Type: image/png", *headers]
    if length is not None:
        fields.append(f"Content-Length: {length}")
    line.sendall("\r\n".join([*fields, "", ""]).encode())


def trickle(line, data):
    """Sends a byte at a time."""
    for byte in data:
        line.sendall(bytes([byte]))
        time.sleep(0.05)


@pytest.fixture(scope="module")
def strict():
    """A client of a service that takes just `PHOTO`, and quickly."""
    limits = Limits(body_bytes=len(PHOTO), body_seconds=0.4, pixels=19 * 31)
    with running(Inverting(), limits=limits) as client:
        yield client


class TestBody:
    def test_one_of_the_limit_is_taken(self, strict):
        assert post(strict).status_code == 200
        form = strict.post("/v1/deblur", files={"photo": ("a.png", PHOTO)})
        assert form.status_code == 200

    def test_a_longer_one_is_413(self, strict):
        answer = post(strict, PHOTO + b"0")
        assert answer.status_code == 413
        assert f"at most {len(PHOTO)} bytes" in answer.json()["detail"]

    def test_also_where_nobody_says_how_long_it_is(self, strict):
        answer = post(strict, iter([PHOTO, b"0" * 100]))
        assert answer.status_code == 413

    def test_also_in_a_form(self, strict):
        answer = strict.post("/v1/deblur", files={"photo": ("a.png", PHOTO + b"0")})
        assert answer.status_code == 413

    def test_one_that_says_that_it_is_longer_is_not_waited_for(self, strict):
        with connection(strict) as line:
            begin(line, "Expect: 100-continue", length=10**12)
            found = read_all(line)
        assert found.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in found.lower()

    def test_one_that_ends_early_holds_nothing(self, strict):
        with connection(strict) as line:
            begin(line, length=len(PHOTO))
            line.sendall(PHOTO[:100])
            eventually(lambda: metric(strict, "m2a_held_bytes") == 100)
        eventually(lambda: metric(strict, "m2a_held_bytes") == 0)

    def test_one_that_is_slow_is_408(self, strict):
        with connection(strict) as line:
            begin(line, length=len(PHOTO))
            line.sendall(PHOTO[:100])
            assert read_all(line).startswith(b"HTTP/1.1 408 ")
        assert metric(strict, "m2a_held_bytes") == 0

    def test_trickling_does_not_help(self, strict):
        began = time.monotonic()
        with connection(strict) as line:
            begin(line, length=len(PHOTO))
            with pytest.raises(OSError, match=r"reset|pipe"):
                trickle(line, PHOTO)
        assert time.monotonic() - began < 8

    @pytest.mark.parametrize("media_type", ["text/plain", "", "image/gif", "application/json"])
    def test_one_of_another_type_is_415(self, strict, media_type):
        answer = post(strict, **{"Content-Type": media_type})
        assert answer.status_code == 415
        assert "image/jpeg" in answer.headers["accept"]

    def test_one_that_is_compressed_is_415(self, strict):
        assert post(strict, **{"Content-Encoding": "gzip"}).status_code == 415

    def test_a_photo_of_more_pixels_is_413(self, strict):
        answer = post(strict, png(noise(1, 8, height=19, width=32), header=(60000, 60000)))
        assert answer.status_code == 413
        assert "60000x60000 pixels" in answer.json()["detail"]


class TestLine:
    """One worker that is held, and place for two that wait."""

    @pytest.fixture
    def held(self):
        inverting = Inverting()
        limits = Limits(queue=2, seconds=20)
        with running(inverting, limits=limits) as client, ThreadPoolExecutor(8) as pool:
            inverting.go_on.clear()
            try:
                yield inverting, client, pool
            finally:
                inverting.go_on.set()

    def test_who_finds_no_place_is_429_at_once(self, held):
        inverting, client, pool = held
        taken = [pool.submit(post, client) for _ in range(3)]
        eventually(lambda: metric(client, "m2a_queue_length") == 2)
        refused = post(client)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert metric(client, "m2a_busy_workers") == 1
        inverting.go_on.set()
        assert [answer.result().status_code for answer in taken] == [200, 200, 200]
        assert post(client).status_code == 200

    def test_who_is_refused_can_still_send_its_photo(self, held):
        """An answer before the body is read would be lost with the connection."""
        _, client, pool = held
        taken = [pool.submit(post, client) for _ in range(3)]
        eventually(lambda: metric(client, "m2a_queue_length") == 2)
        for _ in range(5):
            assert post(client, b"0" * 2**22).status_code == 429
        held[0].go_on.set()
        assert {answer.result().status_code for answer in taken} == {200}

    def test_who_goes_away_leaves_the_line(self, held):
        _, client, pool = held
        first = pool.submit(post, client)
        eventually(lambda: metric(client, "m2a_busy_workers") == 1)
        with connection(client) as line:
            begin(line, length=len(PHOTO))
            line.sendall(PHOTO)
            eventually(lambda: metric(client, "m2a_queue_length") == 1)
        eventually(lambda: metric(client, "m2a_queue_length") == 0)
        assert metric(client, "m2a_held_bytes") == len(PHOTO)
        held[0].go_on.set()
        assert first.result().status_code == 200
        assert len(held[0].calls) == 1

    def test_the_photo_of_who_goes_away_counts_while_it_is_computed(self, held):
        inverting, client, _ = held
        with connection(client) as line:
            begin(line, length=len(PHOTO))
            line.sendall(PHOTO)
            assert inverting.begun.acquire(timeout=5)
        gone = 'm2a_requests_total{route="/v1/deblur",status="400"}'
        eventually(lambda: gone in client.get("/metrics").text)
        assert metric(client, "m2a_held_bytes") == len(PHOTO)
        inverting.go_on.set()
        eventually(lambda: metric(client, "m2a_held_bytes") == 0)

    def test_slow_clients_hold_no_worker_and_no_place(self, held):
        inverting, client, _ = held
        inverting.go_on.set()
        lines = [
            socket.create_connection((client.base_url.host, client.base_url.port))
            for _ in range(50)
        ]
        try:
            for line in lines:
                begin(line, length=len(PHOTO))
                line.sendall(PHOTO[:10])
            assert post(client).status_code == 200
        finally:
            for line in lines:
                line.close()


class TestTime:
    def test_who_waits_too_long_is_503_and_who_computes_too_long_504(self):
        inverting = Inverting()
        limits = Limits(seconds=0.3)
        with running(inverting, limits=limits) as client, ThreadPoolExecutor(2) as pool:
            inverting.go_on.clear()
            first = pool.submit(post, client)
            assert inverting.begun.acquire(timeout=5)
            second = pool.submit(post, client)
            assert second.result().status_code == 503
            assert int(second.result().headers["retry-after"]) >= 1
            assert first.result().status_code == 504
            # The thread cannot be stopped: it holds its worker until it is done.
            assert metric(client, "m2a_busy_workers") == 1
            assert metric(client, "m2a_held_bytes") == len(PHOTO)
            assert post(client).status_code == 503
            inverting.go_on.set()
            eventually(lambda: metric(client, "m2a_busy_workers") == 0)
            assert metric(client, "m2a_held_bytes") == 0
            assert post(client).status_code == 200
            assert len(inverting.calls) == 2


def test_bodies_together_have_a_limit():
    inverting = Inverting()
    limits = Limits(body_bytes=len(PHOTO), queue=1)
    with running(inverting, limits=limits) as client, connection(client) as one:
        with connection(client) as other:
            for line in (one, other):
                begin(line, length=len(PHOTO))
                line.sendall(PHOTO[:-1])
            eventually(lambda: metric(client, "m2a_held_bytes") == 2 * len(PHOTO) - 2)
            answer = post(client)
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "5"
        eventually(lambda: metric(client, "m2a_held_bytes") == len(PHOTO) - 1)
        assert post(client).status_code == 200


def test_what_was_taken_is_answered_before_it_ends():
    threads = threading.active_count()
    inverting = Inverting()
    inverting.go_on.clear()
    with running(inverting) as client, ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(post, client) for _ in range(3)]
        eventually(lambda: metric(client, "m2a_queue_length") == 2)
        client.server.should_exit = True
        time.sleep(0.3)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{client.base_url}/healthz", trust_env=False)
        inverting.go_on.set()
        assert [answer.result().status_code for answer in answers] == [200] * 3
    assert threads == threading.active_count()


@pytest.mark.parametrize(
    "settings",
    [
        lambda: Settings(workers=0),
        lambda: Settings(token=""),
        lambda: Settings(token="two words"),
        lambda: Settings(token="schlüssel"),
        lambda: Settings(allow_origins=("*",)),
        lambda: Settings(allow_origins=("https://a/b",)),
        lambda: Limits(queue=-1),
        lambda: Limits(seconds=0),
        lambda: Limits(body_seconds=float("nan")),
        lambda: Limits(seconds=float("inf")),
        lambda: Limits(body_seconds=float("inf")),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings):
    with pytest.raises(UsageError, match="expected"):
        settings()
