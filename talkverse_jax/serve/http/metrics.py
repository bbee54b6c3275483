"""Figures for Prometheus. They tell of all owners' jobs in sum, so they are for those who may call at all."""

import asyncio
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

import talkverse_jax
from talkverse_jax.serve.http.front import Exchange
from talkverse_jax.serve.http.router import Handler
from talkverse_jax.serve.http.setup import Setup

_BUCKETS = (0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600)


class ServerMetrics:
    """The figures of a server, in a registry of its own."""

    def __init__(self, setup: Setup):
        self._setup, self._registry = setup, CollectorRegistry()
        own: Any = {"registry": self._registry, "namespace": talkverse_jax.__name__}
        self._requests = Counter("http_requests", "Answered requests.", ["method", "route", "status"], **own)
        self._sent = Counter("http_sent_bytes", "Bytes of answers.", **own)
        self._seconds = Histogram(
            "http_request_seconds", "How long requests took.", ["method", "route"], buckets=_BUCKETS, **own
        )
        self._queued = Gauge("jobs_queued", "Jobs that wait.", **own)
        self._running = Gauge("jobs_running", "Jobs in work.", **own)
        self._ready = Gauge("ready", "1 when models are loaded and jobs are made.", **own)
        self._connections = Gauge("connections", "Open connections.", **own)

    def table(self) -> dict[str, dict[str, Handler]]:
        """None where strangers could read them."""
        open_to_all = not (self._setup.access.has_keys or self._setup.options.is_local)
        return {} if open_to_all else {"/metrics": {"GET": Handler(self._answer)}}

    def observe(self, exchange: Exchange) -> None:
        """Count a request that was answered."""
        self._requests.labels(exchange.method, exchange.pattern, exchange.status).inc()
        self._seconds.labels(exchange.method, exchange.pattern).observe(exchange.seconds)
        self._sent.inc(exchange.sent)

    async def _answer(self, request: Request) -> Response:
        health = await asyncio.to_thread(self._setup.jobs.state)
        self._queued.set(health.queue_length)
        self._running.set(health.running)
        self._ready.set(health.state == "ready")
        self._connections.set(self._setup.connections())
        headers = {"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"}
        return Response(generate_latest(self._registry), headers=headers)
