"""Connections that end when a client takes too long over what uvicorn waits for without end."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

from m2a.serving.settings import Limits

__all__ = ["timed_protocol"]

PROGRESS = 2**16
"""Bytes of an answer that a client must take within `Limits.unread_seconds`."""


def timed_protocol(limits: Limits) -> type[H11Protocol]:
    """Uvicorn's HTTP/1.1 with a time for a request's headers and for taking an answer."""

    class TimedProtocol(H11Protocol):
        _headers_due: asyncio.TimerHandle | None = None
        _taken_due: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._watch_headers()

        def connection_lost(self, exc: Exception | None) -> None:
            for timer in (self._headers_due, self._taken_due):
                if timer is not None:
                    timer.cancel()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch_headers()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._watch_headers()
            if self._taken_due is not None:  # what was unread of the answer before
                self._taken_due.cancel()
            self._watch_answer(None)

        def _watch_headers(self) -> None:
            """Starts the time when the headers of a request are due, ends it when they are here."""
            between = self.cycle is None or self.cycle.response_complete
            if between and self._headers_due is None:
                self._headers_due = self.loop.call_later(limits.header_seconds, self._end)
            elif not between and self._headers_due is not None:
                self._headers_due.cancel()
                self._headers_due = None

        def _end(self) -> None:
            self.timeout_keep_alive_handler()

        def _watch_answer(self, before: int | None) -> None:
            """Breaks a connection whose client does not take what was written for it."""
            unread = self.transport.get_write_buffer_size()
            if not unread:
                return
            if before is not None and unread > before - PROGRESS:
                self.transport.abort()
                return
            self._taken_due = self.loop.call_later(
                limits.unread_seconds, self._watch_answer, unread
            )

    return TimedProtocol
