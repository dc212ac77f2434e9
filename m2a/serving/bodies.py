"""Reading a request's body: never more, and never for longer, than is allowed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from starlette.requests import ClientDisconnect, Request

from m2a.serving.forms import HEADER_BYTES, PhotoForm
from m2a.serving.problems import ProblemError

__all__ = [
    "ACCEPTED",
    "FORM",
    "PICTURES",
    "RAW",
    "Held",
    "Share",
    "check_headers",
    "read_photo_bytes",
]

PICTURES = ("image/jpeg", "image/png", "image/tiff", "image/webp", "image/avif", "image/heic")
RAW = (*PICTURES, "image/heif", "application/octet-stream")
FORM = "multipart/form-data"

ACCEPTED = (*RAW, FORM)
"""Media types of a body. What a photo is coded in is told by its content."""

FORM_BYTES = 2 * HEADER_BYTES
"""That a form may take beside its photo."""


class Held:
    """Counts the bytes of all bodies in memory.

    Attributes:
        limit: bytes.
        count: bytes that are in memory now.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0


class Share:
    """One request's share of what is held.

    Its bytes count until the block ends, or until the work that `keep_for` names does.
    """

    def __init__(self, held: Held) -> None:
        self._held, self._taken = held, 0

    def __enter__(self) -> Share:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.count -= self._taken
        self._taken = 0

    def keep_for(self, work: asyncio.Future[Any]) -> None:
        """Counts what was taken until some work is done, also where the block ends before it."""
        taken, self._taken = self._taken, 0

        def give_back(_: asyncio.Future[Any]) -> None:
            self._held.count -= taken

        work.add_done_callback(give_back)

    def take(self, count: int) -> None:
        """Counts bytes.

        Raises:
            ProblemError: 503, there would be more than the limit.
        """
        held = self._held
        if held.count + count > held.limit:
            raise ProblemError(
                503,
                f"found {held.count} bytes of photos in memory, expected at most {held.limit}; "
                "try again later",
                headers={"Retry-After": "5"},
            )
        held.count += count
        self._taken += count


def check_headers(request: Request, *, max_bytes: int) -> str:
    """Refuses, before a byte of it is read, a body that would be refused.

    Returns:
        Its media type, without parameters.

    Raises:
        ProblemError: 415, not one of `ACCEPTED`; 413, it says itself that it is too long.
    """
    found = request.headers.get("content-type", "")
    media_type = found.partition(";")[0].strip().lower()
    if media_type not in ACCEPTED:
        raise ProblemError(
            415,
            f"found {found or 'no Content-Type'!r:.80}, expected one of {', '.join(ACCEPTED)}; "
            "curl sets it with -H 'Content-Type: image/jpeg'",
            headers={"Accept": ", ".join(ACCEPTED)},
        )
    coding = request.headers.get("content-encoding", "identity").lower()
    if coding != "identity":
        raise ProblemError(
            415,
            f"found Content-Encoding {coding!r:.40}, expected none",
            headers={"Accept-Encoding": "identity"},
        )
    stated = request.headers.get("content-length", "")
    if stated.isascii() and stated.isdecimal() and int(stated[:20]) > _limit(media_type, max_bytes):
        raise _too_long(max_bytes)
    return media_type


async def read_photo_bytes(
    request: Request, media_type: str, share: Share, *, max_bytes: int, seconds: float
) -> bytes:
    """Reads the photo in a body.

    Args:
        request: whose body was not read yet.
        media_type: as `check_headers` returned it.
        share: counts the bytes.
        max_bytes: of the body.
        seconds: for all of the body.

    Raises:
        ProblemError: 413, it is longer; 408, it takes longer; 503, too many bytes are held;
            400, the client went away; 422, a form is damaged or does not hold one photo.
    """
    stream = _stream(request, share, limit=_limit(media_type, max_bytes), seconds=seconds)
    try:
        if media_type == FORM:
            form = PhotoForm(request.headers["content-type"])
            async for chunk in stream:
                form.write(chunk)
            photo = form.photo()
        else:
            photo = b"".join([chunk async for chunk in stream])
    except ClientDisconnect:
        raise ProblemError(400, "the connection ended before the body did") from None
    if len(photo) > max_bytes:
        raise _too_long(max_bytes)
    return photo


def _limit(media_type: str, max_bytes: int) -> int:
    return max_bytes + FORM_BYTES if media_type == FORM else max_bytes


def _too_long(limit: int) -> ProblemError:
    return ProblemError(413, f"the body is too long, expected at most {limit} bytes")


async def _stream(
    request: Request, share: Share, *, limit: int, seconds: float
) -> AsyncGenerator[bytes, None]:
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    found = 0
    chunks = request.stream().__aiter__()
    while True:
        try:
            chunk = await asyncio.wait_for(chunks.__anext__(), end - loop.time())
        except StopAsyncIteration:
            return
        except asyncio.TimeoutError:
            raise ProblemError(408, f"the body took longer than {seconds:g} seconds") from None
        found += len(chunk)
        if found > limit:
            raise _too_long(limit)
        share.take(len(chunk))
        yield chunk
