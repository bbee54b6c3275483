"""What all requests have in common: an id, the headers of every answer, a line in the log, and an end of their body."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from talkverse_jax.serve.http.errors import Fault
from talkverse_jax.serve.http.router import LIVE

LOG = logging.getLogger("talkverse_jax.serve")

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
_METHODS = {name: name for name in ("GET", "HEAD", "POST", "DELETE", "OPTIONS")}
_LINGER = 5.0  # seconds for a client to see an answer that comes before the end of its request
CLIENT_GONE = 499  # in the log only


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


class Exchange:
    """A request and its answer, as they go by.

    Attributes:
      id: of the request.
      method: GET, HEAD, POST, DELETE, OPTIONS, or "other".
      pattern: the route's, for the log.
      status: that was answered; 499 where the client went away before.
      sent: bytes of the answer's body.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send):
        self.id, self.method = f"req_{secrets.token_hex(16)}", _METHODS.get(scope["method"], "other")
        self._began = time.monotonic()
        self.pattern, self.status, self.sent = "-", CLIENT_GONE, 0
        self.extra: dict[str, str] = {}
        self._receive, self._send = receive, send
        headers = Headers(scope=scope)
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        self.body_left, self.gone = has_body, False
        self._waits_for_leave = "expect" in headers
        self.started = False

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._began

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.gone, self.body_left = True, False
        elif message["type"] == "http.request" and not message.get("more_body", False):
            self.body_left = False
        self._waits_for_leave = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started, self.status = True, message["status"]
            self._finish_headers(message)
        elif message["type"] == "http.response.body":
            self.sent += len(message.get("body", b""))
            if self.body_left and not message.get("more_body", False):
                await self._send({**message, "more_body": True})
                await self._linger()
                message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    def _finish_headers(self, message: Message) -> None:
        headers = MutableHeaders(scope=message)
        for name, value in (_HEADERS | self.extra | {"X-Request-Id": self.id}).items():
            headers.setdefault(name, value)
        if self.body_left:
            headers["Connection"] = "close"

    async def _linger(self) -> None:
        """Let the client send on for a while: one that is cut off in the middle may not see the answer."""
        if self._waits_for_leave or self.status == 408:
            return
        try:
            async with asyncio.timeout(_LINGER):
                while self.body_left:
                    await self.receive()
        except TimeoutError:
            pass


class Front:
    """Stands before the app.

    Args:
      connections: how many are open; `most` of them may be.
    """

    def __init__(self, app: ASGIApp, most: int, connections: Callable[[], int], observe: Callable[[Exchange], Any]):
        self._app, self._most, self._connections, self._observe = app, most, connections, observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._exchange(scope, receive, send)
        elif scope["path"] == LIVE and self._connections() <= self._most:
            await self._app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _exchange(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        scope["exchange"] = exchange
        try:
            if self._connections() > self._most:
                fault = Fault("busy", "too many connections; try again later", headers={"Connection": "close"})
                await fault.answer()(scope, exchange.receive, exchange.send)
            else:
                await self._app(scope, exchange.receive, exchange.send)
        except ClientGone:
            exchange.status = CLIENT_GONE
        except Exception:
            LOG.exception("%s %s failed", exchange.id, exchange.pattern)
            if not exchange.started:
                fault = Fault("internal_error", f"the server failed; its log knows more ({exchange.id})")
                await fault.answer()(scope, exchange.receive, exchange.send)
        finally:
            line = (exchange.method, exchange.pattern, exchange.status, exchange.seconds * 1000)
            LOG.info("%s %s %d %.0f ms %d bytes %s", *line, exchange.sent, exchange.id)
            self._observe(exchange)
