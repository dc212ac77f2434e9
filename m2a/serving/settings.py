"""What a service takes, and whom it listens to."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from m2a.errors import UsageError

__all__ = ["Limits", "Settings", "is_loopback"]

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
"""The names under which a service on this machine alone is reached."""

LONGEST = 10**7
"""Seconds, four months: what is longer is no limit, and clocks cannot add it."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on what one client and all together may take.

    Attributes:
        body_bytes: of a request's body.
        pixels: of a photo, as `m2a.runtime.decoding.counted_pixels` counts them.
        queue: requests that may wait for a worker.
        body_seconds: from a request's first line to the end of its body.
        seconds: to wait for a worker and to be computed, together.
        header_seconds: from a connection, or the answer before, to the end of a request's headers.
        unread_seconds: for a client to take the next 64 KiB of its answer.
        connections: open at a time.

    Raises:
        UsageError: one is out of range.
    """

    body_bytes: int = 32 * 2**20
    pixels: int = 2**26
    queue: int = 16
    body_seconds: float = 60
    seconds: float = 60
    header_seconds: float = 10
    unread_seconds: float = 30
    connections: int = 256

    def __post_init__(self) -> None:
        for name, least in (
            ("body_bytes", 1),
            ("pixels", 1),
            ("queue", 0),
            ("connections", 1),
        ):
            if getattr(self, name) < least:
                raise UsageError(f"{name}: found {getattr(self, name)}, expected at least {least}")
        for name in ("body_seconds", "seconds", "header_seconds", "unread_seconds"):
            if not 0 < getattr(self, name) <= LONGEST:
                raise UsageError(
                    f"{name}: found {getattr(self, name)}, expected more than 0 and at most "
                    f"{LONGEST:,}"
                )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a service is reached, and what it takes.

    Attributes:
        host: the address that it is bound to.
        port: 0 takes a free one.
        workers: photos that are computed at a time.
        limits: bounds.
        token: what every client has to send; None lets all in.
        allow_origins: other sites whose scripts may use it, as `https://example.org`.
        allow_hosts: names in the header Host that are taken beside those of a service on this
            machine alone. On another address all are taken if none is given.

    Raises:
        UsageError: a setting cannot be meant.
    """

    host: str = "127.0.0.1"
    port: int = 8077
    workers: int = 1
    limits: Limits = field(default_factory=Limits)
    token: str | None = field(default=None, repr=False)
    allow_origins: tuple[str, ...] = ()
    allow_hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UsageError(f"expected at least one worker, found {self.workers}")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise UsageError("the token holds letters that no header can, expected printable ASCII")
        if self.token is not None and (not self.token or " " in self.token):
            raise UsageError("the token is empty or holds spaces, expected one word")
        for origin in self.allow_origins:
            scheme, _, rest = origin.partition("://")
            if scheme not in ("http", "https") or not rest or "/" in rest or "*" in rest:
                raise UsageError(
                    f"found the origin {origin!r}, expected one such as https://example.org, "
                    "without a path"
                )

    @property
    def known_hosts(self) -> frozenset[str] | None:
        """The names, in lower case and without port, that Host may hold; None for any."""
        named = {name.lower() for name in self.allow_hosts}
        if is_loopback(self.host):
            return frozenset({*LOOPBACK_NAMES, self.host.lower(), *named})
        return frozenset(named) or None

    @property
    def held_bytes(self) -> int:
        """Of all bodies that are read, wait or are computed at a time."""
        return self.limits.body_bytes * (self.limits.queue + self.workers)


def is_loopback(host: str) -> bool:
    """Whether an address reaches this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
