"""Routes that answer when the video is done: an ordinary job, and somebody who waits for it."""

import asyncio
import contextlib

from starlette.requests import Request

from talkverse_jax.serve.http.admission import Admitted
from talkverse_jax.serve.http.body import gone
from talkverse_jax.serve.http.errors import Fault
from talkverse_jax.serve.http.front import ClientGone
from talkverse_jax.serve.http.setup import Setup
from talkverse_jax.serve.jobs.job import JobEvent, Record


class Blocking:
    """Waits for jobs."""

    def __init__(self, setup: Setup):
        self._setup = setup

    async def wait(self, request: Request, admitted: Admitted) -> Record:
        """The job, completed.

        Raises:
          Fault: it failed, or takes longer than a request may.
          ClientGone: nobody waits for it any more; a job that this request made is removed.
        """
        record, jobs = admitted.record, self._setup.jobs
        ended, left = asyncio.ensure_future(self._ended(record)), asyncio.ensure_future(gone(request))
        try:
            await asyncio.wait(
                [ended, left], timeout=self._setup.options.infer_timeout, return_when=asyncio.FIRST_COMPLETED
            )
            if left.done() and not ended.done():
                if not admitted.replayed:
                    await asyncio.to_thread(jobs.delete, record.owner, record.id)
                raise ClientGone
            if not ended.done():
                message = f"the video is not done yet; GET /v1/videos/{record.id} tells how far it is"
                raise Fault("infer_timeout", message)
        finally:
            for each in (ended, left):
                each.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await each
        found = await asyncio.to_thread(jobs.get, record.owner, record.id)
        if found is None:
            raise Fault("video_not_found", "the video was deleted")
        if found.failure is not None:
            raise Fault(found.failure.code, found.failure.message, found.failure.param, status=500)
        if not found.ended:
            raise Fault("draining", f"the server is about to stop; video {record.id} goes on after its next start")
        return found

    async def _ended(self, record: Record) -> None:
        try:
            subscription = await asyncio.to_thread(self._setup.jobs.subscribe, record.id, 0)
        except KeyError:
            return
        try:
            async for each in subscription:
                if isinstance(each, JobEvent) and each.last:
                    return
        finally:
            subscription.close()
