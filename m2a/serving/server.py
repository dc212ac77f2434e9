"""Running a service until it is told to stop."""

from __future__ import annotations

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

    A second SIGINT does not wait for answers.

    Args:
        deblurrer: the opened bundle.
        settings: how the service is reached, and what it takes.
        started: called with the service's address when it takes connections.

    Raises:
        ServiceError: the address or the port cannot be taken.
    """
    server = server_of(deblurrer, settings)
    with _bound(settings) as listener, _signals_end_no_process():
        host, port = listener.getsockname()[:2]
        started(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        server.run(sockets=[listener])


def server_of(deblurrer: Deblurrer, settings: Settings) -> uvicorn.Server:
    """The server, which was not started yet."""
    limits = settings.limits
    return uvicorn.Server(
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


@contextmanager
def _bound(settings: Settings) -> Iterator[socket.socket]:
    """A listening socket; connections wait from here on."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _cannot_bind(settings, error) from error
    with listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()
        except OSError as error:
            raise _cannot_bind(settings, error) from error
        yield listener


def _cannot_bind(settings: Settings, error: OSError) -> ServiceError:
    return ServiceError(
        f"cannot listen on {settings.host} port {settings.port}: {error.strerror}; "
        "--host and --port take another"
    )


@contextmanager
def _signals_end_no_process() -> Iterator[None]:
    """Keeps uvicorn from raising again the signals that ended it: to be told is no failure."""
    kinds = (signal.SIGTERM, signal.SIGINT)
    before = {kind: signal.signal(kind, lambda *_: None) for kind in kinds}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
