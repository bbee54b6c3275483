"""A job's events as a stream for EventSource."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from talkverse_jax.serve.http.errors import Fault, said
from talkverse_jax.serve.http.front import ClientGone
from talkverse_jax.serve.http.setup import Setup
from talkverse_jax.serve.http.video_object import progress_event, video_object
from talkverse_jax.serve.jobs.job import JobEvent, Progress, Record, Refused

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_AGAIN = 1.0  # seconds between two questions to a database
_UNREAD = 30.0  # seconds after which a client that reads nothing is left


class PatientResponse(StreamingResponse):
    """A stream that ends where the client has not read for a while."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Any) -> None:
            try:
                async with asyncio.timeout(_UNREAD):
                    await send(message)
            except TimeoutError:
                raise ClientGone from None

        await super().__call__(scope, receive, sent)


def last_event_id(request: Request) -> int:
    """The number of the last event that the client knows; 0 where it knows none.

    Raises:
      Fault: it is no number.
    """
    given = request.headers.get("last-event-id") or request.query_params.get("last_event_id") or "0"
    if not (given.isascii() and given.isdigit() and len(given) < 10):
        raise Fault("invalid_value", f"last_event_id: {said(given)}: give the id of an event", "last_event_id")
    return int(given)


async def answer_events(request: Request, setup: Setup, record: Record) -> Response:
    """The events behind the last that the client knows."""
    after, jobs = last_event_id(request), setup.jobs
    if record.ended:
        kept = await asyncio.to_thread(jobs.events, record.id, after)
        if not kept:
            return Response(status_code=204, headers=_HEADERS)
    return PatientResponse(_stream(setup, record, after), headers=_HEADERS, media_type="text/event-stream")


async def _stream(setup: Setup, record: Record, after: int) -> AsyncIterator[str]:
    yield "retry: 2000\n\n"
    try:
        subscription = await asyncio.to_thread(setup.jobs.subscribe, record.id, after)
    except KeyError:  # it has just gone
        return
    waiting: asyncio.Future | None = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(subscription))
            done, _ = await asyncio.wait([waiting], timeout=setup.options.heartbeat_seconds)
            if not done:
                yield ": heartbeat\n\n"
                continue
            try:
                found, waiting = waiting.result(), None
            except StopAsyncIteration:
                return
            yield await _text(setup, record, found)
            if isinstance(found, JobEvent) and found.last:
                return
    finally:
        if waiting is not None:
            waiting.cancel()
        subscription.close()


async def _text(setup: Setup, record: Record, found: JobEvent | Progress) -> str:
    if isinstance(found, Progress):
        return f"event: progress\ndata: {_json(progress_event(found))}\n\n"
    data: Any = dict(found.data)
    if found.kind in ("completed", "failed"):
        now = await _row(setup, record)
        data = video_object(now, None) if now else {"id": record.id}
    number = "" if found.number is None else f"id: {found.number}\n"
    return f"{number}event: {found.kind}\ndata: {_json(data)}\n\n"


async def _row(setup: Setup, record: Record) -> Record | None:
    """The job as it is now, as soon as its database answers."""
    while True:
        try:
            return await asyncio.to_thread(setup.jobs.get, record.owner, record.id)
        except Refused:
            await asyncio.sleep(_AGAIN)


def _json(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))
