"""What a service counts and times, for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)

from m2a.serving.bodies import Held
from m2a.serving.work import Answer
from m2a.serving.workers import Workers

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = CONTENT_TYPE_LATEST

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SHARES = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1)


class Metrics:
    """The metrics of one service, in a registry of their own."""

    def __init__(self, *, workers: Workers, held: Held, model: Mapping[str, str]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        registry = self._registry
        Info("m2a", "What computes.", registry=registry).info(dict(model))
        self._requests = Counter(
            "m2a_requests", "Requests by route and status.", ["route", "status"], registry=registry
        )
        self._stages = Histogram(
            "m2a_stage_seconds",
            "Wall time of a photo's stages.",
            ["stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self._answers = Histogram(
            "m2a_photo_seconds",
            "From a request's first line to its answer, of photos that were deblurred.",
            buckets=SECONDS,
            registry=registry,
        )
        self._coverage = Histogram(
            "m2a_coverage",
            "Restored pixels / all pixels of a photo.",
            buckets=SHARES,
            registry=registry,
        )
        self._pixels = Counter("m2a_pixels", "Pixels of all photos deblurred.", registry=registry)
        for name, text, value in (
            ("m2a_queue_length", "Photos that wait for a worker.", lambda: workers.waiting),
            ("m2a_busy_workers", "Workers that compute.", lambda: workers.busy),
            ("m2a_held_bytes", "Bytes of photos in memory, as they came.", lambda: held.count),
        ):
            Gauge(name, text, registry=registry).set_function(value)

    def count_request(self, route: str, status: int) -> None:
        """Counts a request that was answered."""
        self._requests.labels(route, str(status)).inc()

    def observe(self, answer: Answer, stages: Mapping[str, float], *, total: float) -> None:
        """Notes a photo that was deblurred.

        Args:
            answer: what is answered.
            stages: seconds of all its stages, with those before the worker's.
            total: seconds since the request's first line.
        """
        for stage, seconds in stages.items():
            self._stages.labels(stage).observe(seconds)
        self._answers.observe(total)
        self._coverage.observe(answer.coverage)
        self._pixels.inc(answer.pixels)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format, `CONTENT_TYPE`."""
        return generate_latest(self._registry)
