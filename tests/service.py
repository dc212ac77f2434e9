"""A running service on loopback, and models that stand in for the network."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import httpx
import numpy as np

from m2a.runtime.result import Result
from m2a.serving.server import server_of
from m2a.serving.settings import Limits, Settings

BUNDLE = SimpleNamespace(
    manifest={"model": {"name": "stand-in"}},
    graphs={
        "fp32": {
            name: SimpleNamespace(sha256=letter * 64)
            for name, letter in (("mask", "a"), ("restore", "b"))
        }
    },
)


class Inverting:
    """Stands in for a `Deblurrer`: inverts the left half of a picture; can be held."""

    bundle, backend, precision, ensemble = BUNDLE, "ort-cpu", "fp32", 1

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.go_on.set()
        self.begun = threading.Semaphore(0)
        self.calls: list[tuple[float | None, int | None]] = []
        self.error: Exception | None = None

    def with_mask_settings(self, *, threshold=None, dilate=None):
        self.calls.append((threshold, dilate))
        return self

    def __call__(self, pixels, *, mask=None):
        self.begun.release()
        assert self.go_on.wait(30)
        if self.error is not None:
            raise self.error
        height, width = pixels.shape[:2]
        image = pixels.copy()
        image[:, : width // 2] = np.iinfo(pixels.dtype).max - image[:, : width // 2]
        mask = np.zeros((height, width), bool)
        mask[:, : width // 2] = True
        motion = np.full((-(-height // 32) * 8, -(-width // 32) * 8, 4), np.nan, np.float32)
        motion[: height // 4, : width // 8] = (6, 4, 0, 2)
        return Result(
            image=image,
            mask=mask,
            probability=mask.astype(np.float32),
            coverage=float(mask.mean()),
            motion=motion,
            seconds={"mask": 0.001, "restore": 0.002},
            backend="ort-cpu",
        )


@contextmanager
def running(deblurrer, *, limits=None, **settings):
    """Runs a service in a thread; yields a client of it, whose `server` it is."""
    chosen = Settings(port=0, limits=limits or Limits(), **settings)
    with running_server(server_of(deblurrer, chosen)) as client:
        yield client


@contextmanager
def running_server(server):
    """Runs a server in a thread; yields a client of it, whose `server` it is."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            with httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
                client.server = server
                yield client
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def eventually(holds, *, seconds=10) -> None:
    """Waits until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextmanager
def connection(client):
    """A socket to the service, to say on it what no client library would."""
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=10) as line:
        yield line


def read_all(line) -> bytes:
    """What comes until the service ends the connection."""
    found = b""
    while chunk := line.recv(65536):
        found += chunk
    return found
