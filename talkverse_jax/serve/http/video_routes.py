"""The routes of videos: made, looked at, played, stopped, removed."""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from talkverse_jax.serve.http.admission import Admission, Admitted
from talkverse_jax.serve.http.blocking import Blocking
from talkverse_jax.serve.http.content import TYPES, answer_file
from talkverse_jax.serve.http.errors import Fault, said
from talkverse_jax.serve.http.events import answer_events
from talkverse_jax.serve.http.router import Handler
from talkverse_jax.serve.http.setup import Setup
from talkverse_jax.serve.http.stream import answer_stream
from talkverse_jax.serve.http.video_object import poll_after, video_object
from talkverse_jax.serve.jobs.job import Progress, Record, is_id

NO_STORE = {"Cache-Control": "no-store"}
_REPLAYED = {"Idempotent-Replayed": "true"}
_MOST_LISTED, _LISTED = 100, 20


class VideoRoutes:
    """The routes of videos."""

    def __init__(self, setup: Setup, admission: Admission):
        self._setup, self._admission, self._blocking = setup, admission, Blocking(setup)

    def table(self) -> dict[str, dict[str, Handler]]:
        content = Handler(self._content, query=frozenset({"variant"}))
        return {
            "/v1/videos": {
                "POST": Handler(self._create, makes=True),
                "GET": Handler(self._list, query=frozenset({"limit", "order", "after"})),
            },
            "/v1/videos/sync": {"POST": Handler(self._sync, makes=True)},
            "/v1/videos/{id}": {"GET": Handler(self._get), "DELETE": Handler(self._delete)},
            "/v1/videos/{id}/content": {"GET": content, "HEAD": content},
            "/v1/videos/{id}/stream": {"GET": Handler(self._stream)},
            "/v1/videos/{id}/events": {"GET": Handler(self._events, query=frozenset({"last_event_id"}))},
            "/v1/videos/{id}/cancel": {"POST": Handler(self._cancel)},
        }

    async def _create(self, request: Request) -> Response:
        admitted = await self._admission.submit(request, request.scope["owner"])
        return await self._object(admitted.record, _REPLAYED if admitted.replayed else {})

    async def _sync(self, request: Request) -> Response:
        admitted: Admitted = await self._admission.submit(request, request.scope["owner"])
        record = await self._blocking.wait(request, admitted)
        response = await self.video(request, record)
        response.headers["X-Video-Id"] = record.id
        if admitted.replayed:
            response.headers.update(_REPLAYED)
        return response

    async def _list(self, request: Request) -> Response:
        query = request.query_params
        limit, order, after = query.get("limit", str(_LISTED)), query.get("order", "desc"), query.get("after")
        if not (limit.isascii() and limit.isdigit() and len(limit) < 4 and 1 <= int(limit) <= _MOST_LISTED):
            raise Fault("invalid_value", f"limit: {said(limit)}: give 1 to {_MOST_LISTED}", "limit")
        if order not in ("asc", "desc"):
            raise Fault("invalid_value", f"order: {said(order)}: give asc or desc", "order")
        unknown = Fault("invalid_value", "after: there is no such video; give an id of the list", "after")
        if after is not None and not is_id(after):
            raise unknown
        jobs, owner = self._setup.jobs, request.scope["owner"]
        try:
            records, more = await asyncio.to_thread(jobs.list, owner, int(limit), order, after)
        except KeyError:
            raise unknown from None
        videos = [video_object(record, await self._progress(record)) for record in records]
        first, last = (videos[0]["id"], videos[-1]["id"]) if videos else (None, None)
        listed = {"object": "list", "data": videos, "first_id": first, "last_id": last, "has_more": more}
        return JSONResponse(listed, headers=NO_STORE)

    async def _get(self, request: Request) -> Response:
        return await self._object(await self.record(request))

    async def _delete(self, request: Request) -> Response:
        job = request.path_params["id"]
        owner = request.scope["owner"]
        if not is_id(job) or not await asyncio.to_thread(self._setup.jobs.delete, owner, job):
            raise _not_found()
        return JSONResponse({"id": job, "object": "video.deleted", "deleted": True}, headers=NO_STORE)

    async def _cancel(self, request: Request) -> Response:
        record = await self.record(request)
        cancelled = await asyncio.to_thread(self._setup.jobs.cancel, record.owner, record.id)
        if cancelled is None:
            raise _not_found()
        return await self._object(cancelled)

    async def _content(self, request: Request) -> Response:
        record, variant = await self.record(request), request.query_params.get("variant", "video")
        if variant not in TYPES:
            raise Fault("invalid_value", f"variant: {said(variant)}: give {', '.join(TYPES)}", "variant")
        return await self.video(request, record, variant)

    async def video(self, request: Request, record: Record, variant: str = "video") -> Response:
        """A file of a job.

        Raises:
          Fault: it is not completed.
        """
        file = await asyncio.to_thread(self._setup.jobs.video, record.id, variant)
        if file is None:
            raise Fault("video_not_ready", f"the video is {record.status}; ask again when it is completed")
        try:
            return await asyncio.to_thread(answer_file, request, file, record.id, variant)
        except FileNotFoundError:  # it has just been deleted
            raise _not_found() from None

    async def _stream(self, request: Request) -> Response:
        return await answer_stream(self._setup, await self.record(request))

    async def _events(self, request: Request) -> Response:
        return await answer_events(request, self._setup, await self.record(request))

    async def record(self, request: Request) -> Record:
        """The job that the path names.

        Raises:
          Fault: there is none of this owner's.
        """
        job = request.path_params["id"]
        owner = request.scope["owner"]
        found = await asyncio.to_thread(self._setup.jobs.get, owner, job) if is_id(job) else None
        if found is None:
            raise _not_found()
        return found

    async def _object(self, record: Record, headers: dict[str, str] | None = None) -> Response:
        progress = await self._progress(record)
        made: dict[str, Any] = video_object(record, progress)
        more = {} if record.ended else {"openai-poll-after-ms": poll_after(record, progress)}
        return JSONResponse(made, headers=NO_STORE | more | (headers or {}))

    async def _progress(self, record: Record) -> Progress | None:
        if record.ended:
            return None
        try:
            return await asyncio.to_thread(self._setup.jobs.progress, record.id)
        except KeyError:
            return None


def _not_found() -> Fault:
    return Fault("video_not_found", "there is no such video")
