"""A connection's beginning: who opens one and does not ask in time loses it, and what is no HTTP is told so in the
form of all errors."""

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from talkverse_jax.serve.http.errors import Fault

_SECONDS = 20.0  # for the head of a request, from its first byte or from the opening of the connection


class TimedProtocol(H11Protocol):
    """uvicorn's, with a limit of time for the head of a request."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]  # as uvicorn has it
        super().connection_made(transport)
        self._arm()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.get_protocol() is not self:  # it has become a WebSocket
            self._disarm()
        elif self.cycle is None or self.cycle.response_complete:
            self._arm()
        else:
            self._disarm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._disarm()
        super().on_response_complete()

    def _arm(self) -> None:
        if self._head is None:
            self._head = self.loop.call_later(_SECONDS, self._give_up)

    def _disarm(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        fault = Fault("invalid_value", "this is no request of HTTP/1.1; send one", status=400)
        body = json.dumps(fault.body()).encode()
        length = str(len(body)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length), (b"connection", b"close")]
        for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            if (output := self.conn.send(event)) is not None:
                self.transport.write(output)
        self.transport.close()
