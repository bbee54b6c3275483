"""A video while it is made: the writer's own fragments, as they get whole."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import BinaryIO

from starlette.responses import Response

from talkverse_jax.serve.http.body import PIECE
from talkverse_jax.serve.http.errors import Fault
from talkverse_jax.serve.http.events import PatientResponse
from talkverse_jax.serve.http.setup import Setup
from talkverse_jax.serve.jobs.job import Playable, Record

_EVERY = 0.25  # seconds at which to look for more
_HEAD = 2**20  # bytes in which a file tells its codecs


async def answer_stream(setup: Setup, record: Record) -> Response:
    """What is there of a video, and what comes.

    Raises:
      Fault: nothing is there yet.
    """
    there = await asyncio.to_thread(setup.jobs.playable, record.id)
    file = None if there is None else await asyncio.to_thread(_opened, there, 0)
    if there is None or file is None:
        raise Fault("video_not_ready", "no clip of the video is finished yet; try again later")
    kind = f'video/mp4; codecs="{codecs_of(await asyncio.to_thread(file.read, _HEAD))}"'
    file.seek(0)
    headers = {"Cache-Control": "no-store", "Content-Type": kind}
    return PatientResponse(_pieces(setup, record.id, file, there), headers=headers)


def _opened(there: Playable, at: int) -> BinaryIO | None:
    """The file, from a place on; None of one that has just lost its name."""
    try:
        file = there.path.open("rb")
    except FileNotFoundError:
        return None
    file.seek(at)
    return file


async def _pieces(setup: Setup, job: str, file: BinaryIO, there: Playable) -> AsyncIterator[bytes]:
    """A stream that began with fragments goes on with them to their end, also when the file has lost its name; where
    a job was begun again, its new file has the same fragments."""
    began, at = there.path, 0
    try:
        while True:
            while at < there.size and (piece := await _read(file, there.size - at)):
                at += len(piece)
                yield piece
            if there.ended:
                return
            await asyncio.sleep(_EVERY)
            now = await asyncio.to_thread(setup.jobs.playable, job)
            if now is None:
                return
            if now.ended and now.path != began and not _is_unfinished(now):
                while piece := await _read(file, PIECE):
                    yield piece
                return
            there = now
            if await asyncio.to_thread(_is_another, file, now) and (newer := await asyncio.to_thread(_opened, now, at)):
                file.close()
                file = newer
    finally:
        file.close()


async def _read(file: BinaryIO, most: int) -> bytes:
    return await asyncio.to_thread(file.read, min(PIECE, most))


def _is_unfinished(there: Playable) -> bool:
    """Whether the fragments are meant, not the finished file."""
    return there.path.stem.endswith((".partial", ".before"))


def _is_another(file: BinaryIO, there: Playable) -> bool:
    try:
        return not os.path.samestat(os.fstat(file.fileno()), os.stat(there.path))
    except FileNotFoundError:
        return False


def codecs_of(head: bytes) -> str:
    """What MediaSource calls an mp4 of H.264 and AAC that begins so."""
    at = head.find(b"avcC")
    video = f"avc1.{head[at + 5 : at + 8].hex()}" if at >= 0 else "avc1"
    return f"{video}, mp4a.40.2" if b"mp4a" in head else video
