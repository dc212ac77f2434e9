"""A thousand uploads that are no good: each is answered, and nothing stays of them."""

from __future__ import annotations

import random
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pictures import noise, pillow, png, tiff
from service import Inverting, eventually, running

from m2a.serving.bodies import ACCEPTED
from m2a.serving.settings import Limits

WHOLE = [
    pillow(noise(3, 8, height=60, width=80), "JPEG"),
    pillow(noise(3, 8, height=60, width=80), "WebP"),
    pillow(noise(3, 8, height=60, width=80), "AVIF"),
    png(noise(4, 16, height=60, width=80)),
    tiff(noise(1, 16, height=60, width=80)),
]

ANSWERED = {200, 413, 415, 422}
"""A photo may survive what was done to it."""


def damaged(chance: random.Random) -> bytes:
    """A photo that was cut, changed, doubled, or replaced."""
    data = bytearray(chance.choice(WHOLE))
    kind = chance.randrange(5)
    if kind == 0:
        return bytes(data[: chance.randrange(len(data))])
    if kind == 1:  # most damage is done where sizes and counts stand
        for _ in range(chance.randint(1, 20)):
            data[chance.randrange(min(len(data), 200))] = chance.randrange(256)
        return bytes(data)
    if kind == 2:
        for _ in range(chance.randint(1, 50)):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        return bytes(data)
    if kind == 3:
        begin, end = sorted(chance.sample(range(len(data)), 2))
        return bytes(data[:end] + data[begin:])
    return bytes(data[:12]) + chance.randbytes(chance.randrange(5000))


def upload(client, number: int) -> int:
    chance = random.Random(number)
    data = damaged(chance)
    if number % 3 == 0:
        form = b"--b\r\nContent-Disposition: form-data; name=photo; filename=a\r\n\r\n" + data
        body = form + chance.choice([b"\r\n--b--\r\n", b"", b"\r\n--b\r\n", b"--c--"])
        media_type = "multipart/form-data; boundary=b"
    else:
        body, media_type = data, chance.choice([*ACCEPTED, "text/plain"])
    headers = {"Content-Type": media_type}
    output = chance.choice(["image", "mask", "view"])
    answer = client.post("/v1/deblur", content=body, headers=headers, params={"output": output})
    assert answer.status_code in ANSWERED, (number, answer.text)
    if answer.status_code != 200:
        assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code


def not_http(client, number: int) -> None:
    chance = random.Random(number)
    start = b"POST /v1/deblur HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    lines = [
        chance.randbytes(500),
        start + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        start + b"Content-Length: -1\r\n\r\n",
        start + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
        start + b"X: " + b"x" * 200_000 + b"\r\n\r\n",
    ]
    with socket.create_connection((client.base_url.host, client.base_url.port)) as line:
        try:
            line.sendall(chance.choice(lines))
            line.shutdown(socket.SHUT_WR)
            while line.recv(65536):
                pass
        except OSError:  # the service has ended the connection
            pass


def resident() -> int:
    """Bytes of this process in memory now."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("/proc tells the resident set on Linux only")
    lines = status.read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])


def test_a_thousand_malformed_uploads_harm_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    limits = Limits(pixels=10**6, header_seconds=2)
    with running(Inverting(), workers=2, limits=limits) as client, ThreadPoolExecutor(4) as pool:
        good = {"content": WHOLE[0], "headers": {"Content-Type": "image/jpeg"}}
        expected = client.post("/v1/deblur", **good).content
        list(pool.map(lambda number: upload(client, number), range(-200, 0)))
        before = resident()
        found = list(pool.map(lambda number: upload(client, number), range(1000)))
        assert found.count(422) > 400
        assert found.count(415) > 20
        list(pool.map(lambda number: not_http(client, number), range(100)))
        eventually(lambda: client.get("/readyz").json()["busy"] == 0)
        assert "m2a_held_bytes 0.0" in client.get("/metrics").text
        assert client.post("/v1/deblur", **good).content == expected
        assert resident() - before < 100e6  # a leak of every photo, decoded, would be 1 GB
    assert list(tmp_path.iterdir()) == []
