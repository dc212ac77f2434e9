"""What stands around the app: who may use it, and what holds of every answer."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from m2a.serving.problems import problem_response
from m2a.serving.settings import Settings

__all__ = ["OPEN_PATHS", "Access", "Counted", "Drained"]

OPEN_PATHS = ("/", "/healthz", "/readyz", "/openapi.json")
"""What needs no token: nothing there tells about a photo."""

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Of every answer that does not set its own."""

LOGGER = logging.getLogger("m2a.serving")

DRAIN_SECONDS = 2
"""For what is left of the body of a request that was refused before it was read."""


class Counted:
    """Counts requests by status, adds the security headers, and logs what nobody expected.

    That was answered with 500 already: raised on, it would end the connection under the next
    request.
    """

    def __init__(self, app: ASGIApp, *, count: Callable[[str, int], None]) -> None:
        self._app, self._count = app, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, answered = 500, False

        async def noted(message: Message) -> None:
            nonlocal status, answered
            answered = message["type"] == "http.response.body" and not message.get("more_body")
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception:
            if not answered:
                raise
            LOGGER.exception("a request failed")
        finally:
            # A path that is not ours is not a label: anyone can make up any number of them.
            route = getattr(scope.get("route"), "path", "other")
            self._count(route, status)


class Drained:
    """Reads what is left of a body before the answer, for a short while.

    A client that still sends when the connection is closed may never see why it was refused. One
    that asked first (`Expect: 100-continue`) sends nothing. What is not read in time, or is more
    than `limit` bytes, goes with the connection.
    """

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        asks = headers.get("expect", "").lower() == "100-continue"
        left = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        begun = False

        async def noted() -> Message:
            nonlocal left, begun
            message = await receive()
            begun = True
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                left = False
            return message

        async def drain() -> None:
            found = 0
            while left and found <= self._limit:
                found += len((await noted()).get("body", b""))

        async def drained(message: Message) -> None:
            if message["type"] == "http.response.start" and left:
                late = message["status"] == 408
                if (begun or not asks) and not late:
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(drain(), DRAIN_SECONDS)
                if left:
                    MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        await self._app(scope, noted, drained)


class Access:
    """Lets in only who knows the service's name and its token, and comes from no other site.

    A name that somebody made lead to this machine (DNS rebinding) is refused with 421, another
    site's script with 403, a missing or wrong token with 401.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app, self._settings = app, settings
        self._hosts = settings.known_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            refusal = self._refusal(Headers(scope=scope), scope)
            if refusal is not None:
                status, detail = refusal
                challenge = {"WWW-Authenticate": "Bearer"} if status == 401 else None
                await problem_response(status, detail, challenge)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, headers: Headers, scope: Scope) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if self._hosts is not None and _name(host) not in self._hosts:
            return 421, (
                f"found the Host {host!r:.80}, expected one of {', '.join(sorted(self._hosts))}; "
                "m2a serve --allow-host adds one"
            )
        origin = headers.get("origin")
        if origin is not None and not self._is_allowed(origin, host):
            return 403, (
                f"found a request from {origin!r:.80}, expected one from this site; "
                "m2a serve --allow-origin lets another in"
            )
        asks_first = scope["method"] == "OPTIONS" and origin is not None  # never with a token
        if self._settings.token is None or scope["path"] in OPEN_PATHS or asks_first:
            return None
        if not _holds(headers.get("authorization", ""), self._settings.token):
            return 401, "expected the service's token: Authorization: Bearer TOKEN"
        return None

    def _is_allowed(self, origin: str, host: str) -> bool:
        if origin in self._settings.allow_origins:
            return True
        try:
            site = urlsplit(origin).netloc
        except ValueError:  # as of http://[
            return False
        # Not the scheme: a proxy may speak TLS for us.
        return site.lower() == host.lower() != ""


def _name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _holds(authorization: str, token: str) -> bool:
    scheme, _, found = authorization.partition(" ")
    same = hmac.compare_digest(found.strip().encode(), token.encode())
    return same and scheme.lower() == "bearer"
