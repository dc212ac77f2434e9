"""Running a service until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from m2a.errors import ServiceError
from m2a.runtime.deblurrer import Deblurrer
from m2a.serving.app import build_app
from m2a.serving.connections import timed_protocol
from m2a.serving.settings import Settings

__all__ = ["serve", "server_of"]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {
        name: {"handlers": ["stderr"], "level": "ERROR", "propagate": False}
        for name in ("uvicorn", "m2a.serving", "python_multipart")
    },
}
"""Errors on standard error. What clients do wrong is counted by the metrics and fills no log."""


def serve(
    deblurrer: Deblurrer, settings: Settings, *, started: Callable[[str], None] = lambda _: None
) -> None:
    """Serves until SIGTERM or SIGINT, then answers what it took, and returns.

    A SIGINT after the first signal does not wait for answers. What is being computed then cannot be
    stopped: Python waits for it when the process ends, unless that is by `os._exit`.

    Args:
        deblurrer: the opened bundle.
        settings: how the service is reached, and what it takes.
        started: called with the service's address when it takes connections.

    Raises:
        ServiceError: the address or the port cannot be taken.
        KeyboardInterrupt: a SIGINT came after the first signal.
    """
    server = server_of(deblurrer, settings)
    with _bound(settings) as listener, _signals_end(server):
        host, port = listener.getsockname()[:2]
        started(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        server.run(sockets=[listener])
    if server.force_exit:
        raise KeyboardInterrupt


def server_of(deblurrer: Deblurrer, settings: Settings) -> uvicorn.Server:
    """The server, which was not started yet."""
    limits = settings.limits
    return _Server(
        uvicorn.Config(
            build_app(deblurrer, settings),
            http=timed_protocol(limits),
            ws="none",
            lifespan="on",
            log_config=LOGGING,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=limits.connections,
            # What was taken is answered by then.
            timeout_graceful_shutdown=int(limits.body_seconds + limits.seconds) + 5,
        )
    )


class _Server(uvicorn.Server):
    """Gives up at once when it is told to, and without a word."""

    _log = logging.getLogger("uvicorn.error")

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serves; what `shutdown` leaves is cancelled here."""
        try:
            super().run(sockets)
        finally:
            self._log.disabled = False

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answers what was taken, but for a second SIGINT: uvicorn waits for some of it even then.

        From Python 3.12 on that is open connections, and on all the end of the app once it began.
        """
        ending = asyncio.ensure_future(super().shutdown(sockets))
        while not (ending.done() or self.force_exit):
            await asyncio.wait({ending}, timeout=0.1)
        if ending.done():
            ending.result()
        else:
            self._log.disabled = True  # that it is given up is no fault
            for connection in list(self.server_state.connections):
                connection.transport.abort()
            await asyncio.sleep(0)  # so that they are closed while the loop still runs


@contextmanager
def _bound(settings: Settings) -> Iterator[socket.socket]:
    """A listening socket; connections wait from here on."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _cannot_bind(settings, error.strerror) from error
    except UnicodeError as error:  # one of its parts is empty, or too long
        raise _cannot_bind(settings, "it can be no machine's name") from error
    with listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()
        except OSError as error:
            raise _cannot_bind(settings, error.strerror) from error
        yield listener


def _cannot_bind(settings: Settings, why: str | None) -> ServiceError:
    return ServiceError(
        f"cannot listen on {settings.host} port {settings.port}: {why}; "
        "--host and --port take another"
    )


@contextmanager
def _signals_end(server: uvicorn.Server) -> Iterator[None]:
    """Signals end the server and not the process, also before and after uvicorn listens to them.

    Uvicorn raises those again that ended it; but to be told is no failure.
    """

    def end(*_: object) -> None:
        server.should_exit = True  # looked at when it has started

    before = {kind: signal.signal(kind, end) for kind in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
