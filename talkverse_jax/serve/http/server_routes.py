"""The server's state, and its model."""

import asyncio
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import talkverse_jax
from talkverse_jax.serve.http.errors import Fault
from talkverse_jax.serve.http.models import model_object
from talkverse_jax.serve.http.router import Handler
from talkverse_jax.serve.http.setup import Setup
from talkverse_jax.serve.http.video_routes import NO_STORE


class ServerRoutes:
    """The routes of state and model."""

    def __init__(self, setup: Setup):
        self._setup, self._created = setup, int(time.time())

    def table(self) -> dict[str, dict[str, Handler]]:
        return {
            "/health": {"GET": Handler(self._health, public=True)},
            "/ready": {"GET": Handler(self._ready, public=True)},
            "/v1/models": {"GET": Handler(self._models)},
            "/v1/models/{name}": {"GET": Handler(self._model)},
        }

    async def _state(self) -> dict[str, Any]:
        health = await asyncio.to_thread(self._setup.jobs.state)
        return {
            "ok": health.state == "ready",
            "state": health.state,
            "model": self._setup.names[0],
            "version": talkverse_jax.__version__,
            "queue_length": health.queue_length,
            "running": health.running,
            "device_id": health.device_id,
            "uptime_seconds": health.uptime_seconds,
        }

    async def _health(self, request: Request) -> Response:
        return JSONResponse(await self._state(), headers=NO_STORE)

    async def _ready(self, request: Request) -> Response:
        state = await self._state()
        if not state["ok"]:
            raise Fault("not_ready", f"the server is {state['state']}; ask again later")
        return JSONResponse(state, headers=NO_STORE)

    def _object(self) -> dict[str, Any]:
        return model_object(self._setup, self._created)

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._object()]}, headers=NO_STORE)

    async def _model(self, request: Request) -> Response:
        if request.path_params["name"] not in self._setup.names:
            raise Fault("model_not_found", f"there is no such model; give {self._setup.names[0]}", "model")
        return JSONResponse(self._object(), headers=NO_STORE)
