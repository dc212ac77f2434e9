"""How a service ends that is told to in its own process."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from pictures import noise, png
from service import Inverting, eventually

from m2a.errors import ServiceError
from m2a.serving.server import serve
from m2a.serving.settings import Limits, Settings

PHOTO = png(noise(3, 8))

posix = pytest.mark.skipif(sys.platform == "win32", reason="a console's Ctrl-C reaches pytest too")


class Noting(Inverting):
    """Tells whether it has ended what it computes."""

    ended = False

    def __call__(self, pixels, *, mask=None):
        try:
            return super().__call__(pixels, mask=mask)
        finally:
            self.ended = True


def tell(number):
    os.kill(os.getpid(), number)


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_is_told_before_it_takes_connections_ends(number):
    late = []

    def tell_again():
        late.append(True)
        tell(signal.SIGTERM)

    again = threading.Timer(30, tell_again)
    again.start()
    try:
        serve(Inverting(), Settings(port=0), started=lambda _: tell(number))
    finally:
        again.cancel()
    assert not late


@posix
@pytest.mark.parametrize("seconds", [60, 0.1], ids=["awaited", "given up by 504"])
def test_who_is_interrupted_twice_waits_for_no_computation(seconds, capsys):
    inverting = Noting()
    inverting.go_on.clear()

    def interrupt_twice(address):
        with httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
            headers = {"Content-Type": "image/png"}
            answer = pool.submit(client.post, "/v1/deblur", content=PHOTO, headers=headers)
            try:
                assert inverting.begun.acquire(timeout=30)
                if seconds < 1:
                    assert answer.result().status_code == 504
                tell(signal.SIGINT)
                eventually(lambda: refuses(address))
                time.sleep(0.4)  # by then it waits: for the answer, or for the thread alone
            except BaseException:
                tell(signal.SIGINT)  # else nobody would, and the test would never fail
                raise
            finally:
                tell(signal.SIGINT)
            if answer.exception() is None:
                assert answer.result().status_code in (500, 504)

    with ThreadPoolExecutor(2) as pool:
        told = []
        try:
            with pytest.raises(KeyboardInterrupt):
                serve(
                    inverting,
                    Settings(port=0, limits=Limits(seconds=seconds)),
                    started=lambda address: told.append(pool.submit(interrupt_twice, address)),
                )
            assert not inverting.ended
            told[0].result()
        finally:
            inverting.go_on.set()
    assert capsys.readouterr().err == ""


def refuses(address):
    try:
        httpx.get(f"{address}/healthz", trust_env=False)
    except httpx.TransportError:
        return True
    return False


@pytest.mark.parametrize("host", ["a..b", "x" * 70, "\udcff"])
def test_a_host_that_can_be_no_name_is_told(host):
    with pytest.raises(ServiceError, match="port 0: it can be no machine's name; --host"):
        serve(Inverting(), Settings(host=host, port=0))
