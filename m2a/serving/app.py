"""The app: its routes, and what stands around them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

from fastapi import FastAPI, Query
from pydantic import BaseModel
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from m2a._version import __version__
from m2a.runtime.bundle import GRAPHS
from m2a.runtime.deblurrer import Deblurrer
from m2a.serving import documentation
from m2a.serving.bodies import Held, Share, check_headers, read_photo_bytes
from m2a.serving.guards import Access, Counted, Drained
from m2a.serving.metrics import CONTENT_TYPE, Metrics
from m2a.serving.options import DeblurOptions
from m2a.serving.page import page_headers, render_service_page
from m2a.serving.problems import ProblemError, answer_problems
from m2a.serving.settings import Settings
from m2a.serving.work import Answer, deblur_bytes
from m2a.serving.workers import Workers

__all__ = ["build_app"]

EXPOSED = ("M2A-Coverage", "M2A-Model", "M2A-Backend", "Server-Timing", "Retry-After")
"""Headers of an answer that scripts of another site may read, where that is allowed in."""


def build_app(deblurrer: Deblurrer, settings: Settings) -> ASGIApp:
    """Builds the service.

    Args:
        deblurrer: the opened bundle, which `settings.workers` threads share.
        settings: how the service is reached, and what it takes.

    Returns:
        An ASGI app; its workers end with its lifespan.
    """
    service = _Service(deblurrer, settings)
    app = FastAPI(
        title="m2a",
        version=__version__,
        description=documentation.DESCRIPTION,
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        lifespan=service.lifespan,
        responses=documentation.of_every_route(settings),
    )
    answer_problems(app)
    service.add_routes(app)
    documentation.complete(app, settings)
    inner: ASGIApp = app
    if settings.allow_origins:
        inner = CORSMiddleware(
            inner,
            allow_origins=settings.allow_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=EXPOSED,
        )
    inner = Access(inner, settings=settings)
    inner = Drained(inner, limit=settings.limits.body_bytes)
    return Counted(inner, count=service.metrics.count_request)


T = TypeVar("T")


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """What the service computes with, and how much of it is taken."""

    status: Literal["ready"] = "ready"
    model: dict[str, str]
    workers: int
    busy: int
    waiting: int
    queue: int


class _Service:
    """One model in memory, the workers that share it, and the routes to them."""

    def __init__(self, deblurrer: Deblurrer, settings: Settings) -> None:
        self.settings, self._deblurrer = settings, deblurrer
        self._workers = Workers(workers=settings.workers, queue=settings.limits.queue)
        self._held = Held(settings.held_bytes)
        self._model = _model_of(deblurrer)
        self.metrics = Metrics(
            workers=self._workers, held=self._held, model={"version": __version__, **self._model}
        )

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Ends the workers when all requests are answered."""
        yield
        await self._workers.close()

    def add_routes(self, app: FastAPI) -> None:
        """Adds all routes."""
        app.post(
            "/v1/deblur",
            summary="Deblur a photo",
            response_class=Response,
            responses=documentation.of_deblur(self.settings),
            openapi_extra={"requestBody": documentation.PHOTO_BODY},
        )(self.deblur)
        text = documentation.content_of("text/plain", "Prometheus' text format")
        page = documentation.content_of("text/html", "The page")
        app.get("/", summary="The page", response_class=Response, responses={200: page})(self.page)
        app.get("/healthz", summary="Does it run?")(self.healthz)
        app.get("/readyz", summary="Does it take photos?")(self.readyz)
        app.get("/metrics", summary="Metrics", response_class=Response, responses={200: text})(
            self.render_metrics
        )

    async def deblur(
        self, request: Request, options: Annotated[DeblurOptions, Query()]
    ) -> Response:
        """Finds the pixels that motion has blurred and restores only those."""
        limits = self.settings.limits
        began = time.perf_counter()
        media_type = check_headers(request, max_bytes=limits.body_bytes)
        self._workers.check_room()
        with Share(self._held) as share:
            data = await read_photo_bytes(
                request,
                media_type,
                share,
                max_bytes=limits.body_bytes,
                seconds=limits.body_seconds,
            )
            read = time.perf_counter() - began
            work = partial(_work, data, options, self._deblurrer, limits.pixels)
            answer, waited = await _unless_gone(
                request,
                self._workers.compute(work, seconds=limits.seconds, begun=share.keep_for),
            )
        stages = {"read": read, "wait": waited, **answer.seconds}
        self.metrics.observe(answer, stages, total=time.perf_counter() - began)
        return Response(
            answer.content, media_type=answer.media_type, headers=self._headers(answer, stages)
        )

    async def page(self) -> Response:
        """A page on which a photo is dropped and compared with what becomes of it."""
        page = render_service_page(self.settings)
        return Response(page, media_type="text/html", headers=page_headers())

    async def healthz(self) -> Health:
        """Answers as long as the process does."""
        return Health()

    async def readyz(self) -> Readiness:
        """Answers as soon as the model is in memory, whatever waits."""
        return Readiness(
            model=self._model,
            workers=self.settings.workers,
            busy=self._workers.busy,
            waiting=self._workers.waiting,
            queue=self.settings.limits.queue,
        )

    async def render_metrics(self) -> Response:
        """Counts and times, for Prometheus."""
        return Response(self.metrics.render(), media_type=CONTENT_TYPE)

    def _headers(self, answer: Answer, stages: Mapping[str, float]) -> dict[str, str]:
        graphs = ", ".join(f"{name}.onnx={self._model[name]}" for name in GRAPHS)
        return {
            "Content-Disposition": f'inline; filename="{answer.name}"',
            "M2A-Coverage": f"{answer.coverage:.6f}",
            "M2A-Model": graphs,
            "M2A-Backend": self._model["backend"],
            "Server-Timing": ", ".join(
                f"{name};dur={1000 * seconds:.1f}" for name, seconds in stages.items()
            ),
        }


def _model_of(deblurrer: Deblurrer) -> dict[str, str]:
    """What computes: name, backend, precision, ensemble, and the SHA-256 of both graphs."""
    bundle = deblurrer.bundle
    model = bundle.manifest.get("model")
    named = model.get("name", "unnamed") if isinstance(model, dict) else "unnamed"
    graphs = bundle.graphs.get(deblurrer.precision, {})  # engines may be all that it has
    return {
        "name": f"{named!s:.80}",
        "backend": deblurrer.backend,
        "precision": deblurrer.precision,
        "ensemble": str(deblurrer.ensemble),
        **{name: graphs[name].sha256 if name in graphs else "unknown" for name in GRAPHS},
    }


def _work(
    data: bytes,
    options: DeblurOptions,
    deblurrer: Deblurrer,
    max_pixels: int,
    given_up: Callable[[], bool],
) -> Answer:
    return deblur_bytes(data, options, deblurrer, max_pixels=max_pixels, given_up=given_up)


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Awaits work, and gives it up where the client goes away.

    Raises:
        ProblemError: 400, the client went away; nobody reads it.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ProblemError(400, "the client went away")
    finally:
        working.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
