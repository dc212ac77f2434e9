"""Refusals and failures as HTTP answers: problem details (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from m2a.errors import (
    ImageError,
    M2AError,
    PixelLimitError,
    UsageError,
    on_one_line,
)
from m2a.serving.options import DeblurOptions

__all__ = ["MEDIA_TYPE", "ProblemDetails", "ProblemError", "answer_problems", "problem_response"]

MEDIA_TYPE = "application/problem+json"


class ProblemDetails(BaseModel):
    """Why a request was refused or failed."""

    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What was found, what was expected, what to do next.")


class ProblemError(Exception):
    """A request is to be answered with a problem.

    Attributes:
        status: the HTTP status.
        detail: what was found, what was expected, what to do next.
        headers: of the answer.
    """

    def __init__(
        self, status: int, detail: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


def problem_response(
    status: int, detail: str, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer to a request that was refused or failed."""
    # Python before 3.13 has an older name for 413 and 422.
    names = {413: "Content Too Large", 422: "Unprocessable Content"}
    content = {
        "title": names.get(status) or HTTPStatus(status).phrase,
        "status": status,
        "detail": on_one_line(detail),
    }
    return JSONResponse(content, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def answer_problems(app: FastAPI) -> None:
    """Lets an app answer everything that fails with problem details."""

    @app.exception_handler(ProblemError)
    async def refused(_: Request, error: ProblemError) -> Response:
        return problem_response(error.status, error.detail, error.headers)

    @app.exception_handler(M2AError)
    async def failed(_: Request, error: M2AError) -> Response:
        return problem_response(_status_of(error), str(error))

    @app.exception_handler(MemoryError)
    async def out_of_memory(_: Request, __: MemoryError) -> Response:
        detail = "out of memory: take a smaller photo, or try again later"
        return problem_response(503, detail, {"Retry-After": "10"})

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return problem_response(422, "; ".join(map(_sentence, error.errors())))

    @app.exception_handler(HTTPException)
    async def not_here(request: Request, error: HTTPException) -> Response:
        detail = f"{request.method} {request.url.path}: {error.detail}; see /openapi.json"
        return problem_response(error.status_code, detail, error.headers)

    @app.exception_handler(Exception)
    async def unexpected(_: Request, __: Exception) -> Response:
        return problem_response(500, "the service failed; its log tells more")


def _status_of(error: M2AError) -> int:
    if isinstance(error, PixelLimitError):
        return 413
    return 422 if isinstance(error, (ImageError, UsageError)) else 500


def _sentence(error: Mapping[str, object]) -> str:
    place = error.get("loc", ())
    name = place[-1] if isinstance(place, tuple) and place else "the request"
    if error.get("type") == "extra_forbidden":
        close = get_close_matches(str(name), DeblurOptions.model_fields, n=1)
        advice = (
            f"did you mean {close[0]}?"
            if close
            else f"known are {', '.join(DeblurOptions.model_fields)}"
        )
        return f"{name!r:.80}: there is no such parameter; {advice}"
    return f"{name}: {error.get('msg')}, found {error.get('input')!r:.80}"
