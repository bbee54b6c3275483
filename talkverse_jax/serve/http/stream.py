"""A video while it is made: the writer's own fragments, as they get whole."""

import asyncio
from collections.abc import AsyncIterator

from starlette.responses import Response

from talkverse_jax.serve.http.body import PIECE
from talkverse_jax.serve.http.errors import Fault
from talkverse_jax.serve.http.events import PatientResponse
from talkverse_jax.serve.http.setup import Setup
from talkverse_jax.serve.jobs.job import Playable, Record, Refused, StoredFile

_EVERY = 0.25  # seconds at which to look for more
_HEAD = 2**20  # bytes in which a file tells its codecs


class _Reader:
    """Reads on at a file that grows, may lose its name, or give it to another that begins alike.

    Raises:
      OSError: it cannot be had.
    """

    def __init__(self, stored: StoredFile):
        self.stored, self._at = stored, 0
        self._file = stored.open()

    def head(self) -> bytes:
        """Its first bytes."""
        found = self._file.read(_HEAD)
        self._file.seek(0)
        return found

    def left(self, size: int) -> int:
        """How many of so many bytes are still to be read."""
        return size - self._at

    def read(self, most: int) -> bytes:
        """What comes next; nothing, where nothing can be had now."""
        piece = self._read(most)
        if not piece and self._reopened():
            piece = self._read(most)
        self._at += len(piece)
        return piece

    def _read(self, most: int) -> bytes:
        try:
            return self._file.read(min(PIECE, most))
        except OSError:  # of a bucket, where another file has its name
            return b""

    def _reopened(self) -> bool:
        try:
            newer = self.stored.open()
        except OSError:
            return False
        self._file.close()
        self._file = newer
        self._file.seek(self._at)
        return True

    def close(self) -> None:
        self._file.close()


async def answer_stream(setup: Setup, record: Record) -> Response:
    """What is there of a video, and what comes.

    Raises:
      Fault: nothing is there yet.
    """
    there = await asyncio.to_thread(setup.jobs.playable, record.id)
    try:
        reader = None if there is None else await asyncio.to_thread(_Reader, there.file)
    except FileNotFoundError:  # it has just lost its name
        reader = None
    if there is None or reader is None:
        raise Fault("video_not_ready", "no clip of the video is finished yet; try again later")
    kind = f'video/mp4; codecs="{codecs_of(await asyncio.to_thread(reader.head))}"'
    headers = {"Cache-Control": "no-store", "Content-Type": kind}
    return PatientResponse(_pieces(setup, record.id, reader, there), headers=headers)


async def _pieces(setup: Setup, job: str, reader: _Reader, there: Playable) -> AsyncIterator[bytes]:
    """A stream that began with fragments goes on with them to their end, also when the file has lost its name; where
    a job was begun again, its new file has the same fragments."""
    began_finished = there.finished
    try:
        while True:
            while (left := reader.left(there.size)) > 0 and (piece := await asyncio.to_thread(reader.read, left)):
                yield piece
            if there.ended:
                return
            await asyncio.sleep(_EVERY)
            try:
                now = await asyncio.to_thread(setup.jobs.playable, job)
            except Refused:  # its database does not answer now
                continue
            if now is None:
                return
            if now.finished and not began_finished:
                while piece := await asyncio.to_thread(reader.read, PIECE):
                    yield piece
                return
            there, reader.stored = now, now.file
    finally:
        reader.close()


def codecs_of(head: bytes) -> str:
    """What MediaSource calls an mp4 of H.264 and AAC that begins so."""
    at = head.find(b"avcC")
    video = f"avc1.{head[at + 5 : at + 8].hex()}" if at >= 0 else "avc1"
    return f"{video}, mp4a.40.2" if b"mp4a" in head else video
