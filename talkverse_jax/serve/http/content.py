"""A file as an answer: whole or a part of it, and not at all where the client has it."""

import asyncio
import re
from collections.abc import AsyncIterator
from email.utils import formatdate, parsedate_to_datetime

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from talkverse_jax.serve.http.body import PIECE
from talkverse_jax.serve.http.errors import Fault
from talkverse_jax.serve.jobs.job import VideoFile

TYPES = {
    "video": ("video/mp4", "mp4"),
    "thumbnail": ("image/webp", "webp"),
    "spritesheet": ("image/jpeg", "jpg"),
}

_RANGE = re.compile(r"bytes=\s*(\d*)-(\d*)\s*", re.IGNORECASE)


def answer_file(request: Request, file: VideoFile, job: str, variant: str) -> Response:
    """The bytes, as the request's headers ask for them.

    Raises:
      Fault: the range is outside the file.
    """
    kind, ending = TYPES[variant]
    etag = f'"{file.etag}"'
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "Last-Modified": formatdate(int(file.modified), usegmt=True),
        "Cache-Control": "private, no-cache",
    }
    if _has(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    headers["Content-Disposition"] = f'inline; filename="{job}.{ending}"'
    first, behind, status = 0, file.size, 200
    if (asked := _range(request, file, etag)) is not None:
        first, behind = asked
        status, headers["Content-Range"] = 206, f"bytes {first}-{behind - 1}/{file.size}"
    headers["Content-Length"] = str(behind - first)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=kind)
    opened = file.file.open()  # it may lose its name while it is read
    return StreamingResponse(_pieces(opened, first, behind), status, headers, kind)


async def _pieces(file, first: int, behind: int) -> AsyncIterator[bytes]:
    with file:
        file.seek(first)
        while first < behind:
            piece = await asyncio.to_thread(file.read, min(PIECE, behind - first))
            if not piece:
                return
            first += len(piece)
            yield piece


def _has(header: str | None, etag: str) -> bool:
    """Whether a list of tags has that one; compared weakly, as If-None-Match is."""
    tags = [tag.strip().removeprefix("W/") for tag in (header or "").split(",")]
    return etag in tags or tags == ["*"]


def _range(request: Request, file: VideoFile, etag: str) -> tuple[int, int] | None:
    """First byte, and the one behind the last; None for all: no range, several, none that is understood, or one of
    other bytes.

    Raises:
      Fault: it is outside the file.
    """
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    if match is None or match[1] == match[2] == "" or not _same(request.headers.get("if-range"), file, etag):
        return None
    if match[1]:
        first = int(match[1])
        behind = min(file.size, int(match[2]) + 1) if match[2] else file.size
        if match[2] and int(match[2]) < first:
            return None
    else:
        first, behind = max(0, file.size - int(match[2])), file.size
    if first >= behind:
        headers = {"Content-Range": f"bytes */{file.size}"}
        raise Fault("range_not_satisfiable", f"the file has {file.size} bytes", headers=headers)
    return first, behind


def _same(header: str | None, file: VideoFile, etag: str) -> bool:
    """Whether If-Range, if there is one, means these bytes."""
    if header is None or header.strip() == etag:
        return True
    try:
        return int(parsedate_to_datetime(header).timestamp()) == int(file.modified)
    except (ValueError, TypeError):
        return False
