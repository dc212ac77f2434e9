"""What the OpenAPI document says beyond what FastAPI reads from the routes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI

from m2a.serving.bodies import FORM, PICTURES, RAW
from m2a.serving.forms import FIELD
from m2a.serving.guards import OPEN_PATHS
from m2a.serving.options import Format
from m2a.serving.problems import MEDIA_TYPE, ProblemDetails
from m2a.serving.settings import Settings
from m2a.serving.work import View

__all__ = [
    "DESCRIPTION",
    "PHOTO_BODY",
    "complete",
    "content_of",
    "of_deblur",
    "of_every_route",
]

DESCRIPTION = (
    "Local motion deblurring: the pixels that motion has blurred are found, and only those are "
    "restored. What is refused or fails is answered with problem details (RFC 9457)."
)

_BINARY = {"type": "string", "format": "binary"}

_FORM = {
    "type": "object",
    "properties": {FIELD: {**_BINARY, "description": "The photo; its name is not looked at."}},
    "required": [FIELD],
    "additionalProperties": False,
}

PHOTO_BODY: dict[str, Any] = {
    "required": True,
    "description": "A photo: JPEG, PNG, TIFF, WebP, AVIF or HEIF, told by its content.",
    "content": {
        **{name: {"schema": _BINARY} for name in RAW},
        FORM: {"schema": _FORM, "encoding": {FIELD: {"contentType": ", ".join(PICTURES)}}},
    },
}

_WHY = {
    400: "The connection ended before the body did.",
    401: "The token is missing or wrong.",
    403: "The request comes from another site.",
    404: "There is nothing at that path.",
    405: "The path does not take that method.",
    408: "The body took too long.",
    413: "The body is too long, or the photo has too many pixels.",
    415: "The body is of a type that is not taken.",
    421: "The service is not known by that Host.",
    422: "The photo cannot be read, or the parameters do not fit it.",
    429: "Too many photos wait.",
    500: "The service failed.",
    503: "No worker was free in time, or too many bytes are in memory.",
    504: "The photo was not done in time.",
}

_NUMBER = {"schema": {"type": "number"}}
_TEXT = {"schema": {"type": "string"}}
_RETRY = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}

_HEADERS: dict[str, Any] = {
    "M2A-Coverage": {**_NUMBER, "description": "Restored pixels / all pixels, 0 to 1."},
    "M2A-Model": {**_TEXT, "description": "SHA-256 of the graphs that were computed."},
    "M2A-Backend": {**_TEXT, "description": "Who computed."},
    "Server-Timing": {**_TEXT, "description": "Milliseconds of every stage."},
}


def content_of(media_type: str, description: str) -> dict[str, Any]:
    """An answer of one media type that is not JSON."""
    return {"description": description, "content": {media_type: {"schema": {"type": "string"}}}}


def of_every_route(settings: Settings) -> dict[int | str, dict[str, Any]]:
    """The problems with which every route may answer."""
    statuses = [403, 500]
    if settings.known_hosts is not None:
        statuses.append(421)
    return _problems(statuses)


def of_deblur(settings: Settings) -> dict[int | str, dict[str, Any]]:
    """The answers to a photo."""
    pictures = {f"image/{kind.value}": {"schema": _BINARY} for kind in Format}
    view = {"schema": {"$ref": "#/components/schemas/View"}}
    answers: dict[int | str, dict[str, Any]] = {
        200: {
            "description": "What `output` asked for.",
            "headers": _HEADERS,
            "content": {**pictures, "application/json": view},
        }
    }
    return {**answers, **_problems((400, 408, 413, 415, 422, 429, 503, 504))}


def complete(app: FastAPI, settings: Settings) -> None:
    """Adds to the app's document what depends on the settings, and what no route returns."""
    document = app.openapi()
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["View"] = View.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas["ProblemDetails"] = ProblemDetails.model_json_schema()
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                _leave_out_null(parameter["schema"])
    # FastAPI's own, which no route answers with.
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    if settings.token is None:
        return
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, operations in document["paths"].items():
        if path not in OPEN_PATHS:
            for operation in operations.values():
                operation["security"] = [{"token": []}]
                operation["responses"]["401"] = _problems([401])[401]


def _leave_out_null(schema: dict[str, Any]) -> None:
    """A parameter that may be missing cannot be null: a query has no such value."""
    kinds = [kind for kind in schema.pop("anyOf", ()) if kind != {"type": "null"}]
    if kinds:
        schema.update(kinds[0])


def _problems(statuses: Iterable[int]) -> dict[int | str, dict[str, Any]]:
    schema = {"$ref": "#/components/schemas/ProblemDetails"}
    return {
        status: {
            "description": _WHY[status],
            "content": {MEDIA_TYPE: {"schema": schema}},
            **({"headers": _RETRY} if status in (429, 503) else {}),
        }
        for status in statuses
    }
