"""The events of a video, followed over broken connections and restarts of the server."""

import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

from talkverse_jax.client.connection import Connection
from talkverse_jax.client.errors import ApiError
from talkverse_jax.client.records import Event

_PATIENCE = 300.0  # seconds without an answer until the server counts as gone
_PAUSE = 2.0  # seconds between connections, until the server says another number
_SILENCE = 60.0  # seconds without a byte until a connection counts as broken; a server's heart beats every 15


def follow(connection: Connection, path: str, last_event_id: int | None, until: float | None) -> Iterator[Event]:
    """The events behind `last_event_id`, or all of them, up to the last one.

    Args:
      path: of the video's events.
      until: of `time.monotonic`; None for as long as it takes.

    Raises:
      ApiError: there is no such video, or the server refuses.
      ConnectionError: the server has not answered for five minutes.
      TimeoutError: it is later than `until`.
    """
    pause, heard = _PAUSE, time.monotonic()
    while True:
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = str(last_event_id)
        silence = _SILENCE if until is None else min(_SILENCE, max(until - time.monotonic(), 0.1))
        try:
            with connection.stream("GET", path, headers=headers, timeout=silence) as response:
                if response.status_code == 204:
                    return
                with connection.reading(response) as pieces:
                    for name, value in _fields(_lines(pieces)):
                        heard = time.monotonic()
                        if name == "retry":
                            pause = int(value) / 1000
                        elif name == "event":
                            event = value
                            last_event_id = event.id if event.id is not None else last_event_id
                            yield event
                            if event.last:
                                return
                        _check(until)
        except ConnectionError:
            if time.monotonic() - heard > _PATIENCE:
                raise
        except ApiError as error:
            if error.status not in (429, 502, 503, 504):
                raise
            heard = time.monotonic() if error.status in (429, 503) else heard
            pause = max(pause, error.retry_after or 0)
        _check(until)
        time.sleep(pause if until is None else max(0.0, min(pause, until - time.monotonic())))


def _check(until: float | None) -> None:
    if until is not None and time.monotonic() >= until:
        raise TimeoutError("the video is not ready in the time given; it is still being made")


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """The lines of a stream, as soon as they are whole."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).replace(b"\r\n", b"\n").split(b"\n")
        for line in whole:
            yield line.decode()


def _fields(lines: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Of an event stream ("event", Event), ("retry", milliseconds) and ("comment", its text)."""
    number, kind, data = None, "message", []
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield "event", Event(number, kind, json.loads("\n".join(data)))
            number, kind, data = None, "message", []
        elif not name:
            yield "comment", value
        elif name == "retry":
            yield "retry", value
        elif name == "id":
            number = int(value)
        elif name == "event":
            kind = value
        elif name == "data":
            data.append(value)
