"""A live video over a WebSocket: its request and sound come in, its fragments go out as they are made.

The client sends a request like that of /v1/videos, in JSON and without a sound; then sound, 16-bit little-endian mono
samples at 16 kHz in messages of any length; at the end `{"end": true}`. The server sends `{"event": ...}` in JSON,
and the video, a fragmented mp4, in binary messages. What is wrong is `{"error": ...}`, as over HTTP, and the end.
"""

import asyncio
import base64
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket, WebSocketDisconnect

from talkverse_jax.core import strict_json
from talkverse_jax.core.errors import UserError
from talkverse_jax.serve.http.access import COOKIE, check_own_page
from talkverse_jax.serve.http.admission import Admission
from talkverse_jax.serve.http.errors import Fault
from talkverse_jax.serve.http.forms import Form
from talkverse_jax.serve.http.inputs import Looker, WantedFile
from talkverse_jax.serve.http.setup import Setup
from talkverse_jax.serve.http.stream import codecs_of
from talkverse_jax.serve.jobs.job import Refused, new_id
from talkverse_jax.serve.jobs.walls import machine_walls

_BYTES_A_SECOND = 2 * 16_000
_AHEAD = 30.0  # seconds of sound that may come before their time
_KEEPING = {"when_behind": "skip"}  # or what waits would grow without an end
_POLICY, _DONE = 1008, 1000  # why a WebSocket is closed


class LiveRoute:
    """The one route that is a WebSocket."""

    def __init__(self, setup: Setup, admission: Admission, looker: Looker):
        self._setup, self._admission, self._looker = setup, admission, looker

    async def __call__(self, socket: WebSocket) -> None:
        """Serve a connection to its end."""
        setup, origin = self._setup, socket.headers.get("origin")
        try:
            setup.origins.check(socket.headers.get("host"), origin, _scheme(socket))
            self._check_caller(socket)
        except Fault:
            await socket.close(_POLICY)
            return
        await socket.accept()
        folder = Path(tempfile.mkdtemp(prefix="talkverse_jax_live_"))
        try:
            await self._serve(socket, folder)
        except (Fault, Refused) as error:
            fault = error if isinstance(error, Fault) else Fault.of(error)
            await _closing(socket, fault.body(), _POLICY)
        except WebSocketDisconnect:
            pass
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _check_caller(self, socket: WebSocket) -> None:
        access, header = self._setup.access, socket.headers.get("authorization")
        if header is None and access.owner_of_session(socket.cookies.get(COOKIE)) is not None:
            check_own_page(self._setup.origins, socket, _scheme(socket))
            return
        access.owner(header, socket.client.host if socket.client else "")

    async def _serve(self, socket: WebSocket, folder: Path) -> None:
        message = await self._request(socket, folder)
        loop, said = asyncio.get_running_loop(), asyncio.Queue[dict[str, Any]]()

        def hear(each: dict[str, Any]) -> None:
            loop.call_soon_threadsafe(said.put_nowait, each)

        await asyncio.to_thread(self._setup.jobs.lend, message, hear)
        session = message["session"]
        hearing = asyncio.create_task(self._hear(socket, session))
        try:
            await _tell(socket, said, hearing)
        finally:
            hearing.cancel()
            for last in ({"do": "stop", "session": session, "job": session}, _end(session)):
                await asyncio.to_thread(self._setup.jobs.pass_on, last)
            await asyncio.gather(hearing, return_exceptions=True)

    async def _request(self, socket: WebSocket, folder: Path) -> dict[str, Any]:
        """What the worker is told.

        Raises:
          Fault: it is no request, or cannot be served.
        """
        text = await asyncio.wait_for(_text(socket), self._setup.options.upload_timeout)
        try:
            values = strict_json.loads(text, "the first message")
        except UserError as error:
            raise Fault("invalid_json", str(error)) from None
        if not isinstance(values, dict):
            raise Fault("invalid_json", "the first message is no JSON object; send the fields of a video")
        for name in ("audio_reference", "speakers", "tts_text"):
            if name in values:
                raise Fault("unsupported_parameter", f"{name}: the sound of a live video comes in messages", name)
        asked = self._setup.fields.read(Form(values))
        settings = self._admission.checked(asked) | machine_walls(self._setup.options)
        param = asked.param("input_reference")
        picture = WantedFile("image", asked.files["input_reference"], param, ("picture",))
        await self._looker.take(picture, folder)
        files = self._setup.fields.table.files("image", ())
        files = {name: value for name, value in files.items() if isinstance(value, str)}
        return {
            "session": new_id(),
            "folder": str(folder),
            "files": files,
            "settings": settings,
            "keeping": _KEEPING,
        }

    async def _hear(self, socket: WebSocket, session: str) -> None:
        """Pass the sound on, until it ends or the client goes.

        Raises:
          Fault: it comes faster than it can be spoken, or is none.
        """
        begun, heard = time.monotonic(), 0
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect
            if not (pcm := message.get("bytes")):
                await asyncio.to_thread(self._setup.jobs.pass_on, _end(session))
                return
            heard += len(pcm)
            if len(pcm) % 2:
                raise Fault("invalid_value", "a message of sound has an odd number of bytes; send 16-bit samples")
            if heard / _BYTES_A_SECOND > time.monotonic() - begun + _AHEAD:
                raise Fault("invalid_value", "the sound comes faster than it is spoken; send it at its own speed")
            told = {"do": "sound", "session": session, "pcm": base64.b64encode(pcm).decode()}
            await asyncio.to_thread(self._setup.jobs.pass_on, told)


async def _tell(socket: WebSocket, said: asyncio.Queue[dict[str, Any]], hearing: asyncio.Task[None]) -> None:
    """Send what the worker says, to its last word.

    Raises:
      Fault, WebSocketDisconnect: of the sound.
    """
    begun = False
    while True:
        asking = asyncio.create_task(said.get())
        await asyncio.wait([asking, *([] if hearing.done() else [hearing])], return_when=asyncio.FIRST_COMPLETED)
        if hearing.done() and (error := hearing.exception()) is not None:
            asking.cancel()
            raise error
        if not asking.done():
            asking.cancel()
            continue
        message = asking.result()
        if "mp4" in message:
            video = base64.b64decode(message["mp4"])
            if not begun:
                await socket.send_json({"event": "playable", "type": f'video/mp4; codecs="{codecs_of(video)}"'})
            begun = True
            await socket.send_bytes(video)
        elif "ended" in message:
            if message["ended"] is not None:
                raise Fault("unusable_media", message["ended"])
            await _closing(socket, {"event": "ended"}, _DONE)
            return
        else:
            [(event, value)] = ((name, message[name]) for name in ("listening", "notice", "report") if name in message)
            await socket.send_json({"event": event, event: value})


def _end(session: str) -> dict[str, Any]:
    """The end of a session's sound."""
    return {"do": "sound", "session": session, "pcm": None}


async def _text(socket: WebSocket) -> str:
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect
    if (text := message.get("text")) is None:
        raise Fault("invalid_json", "the first message is no text; send the fields of a video as JSON")
    return text


async def _closing(socket: WebSocket, last: dict[str, Any], code: int) -> None:
    """A last word, unless the client is gone."""
    try:
        await socket.send_json(last)
        await socket.close(code)
    except (WebSocketDisconnect, RuntimeError):
        pass


def _scheme(connection: HTTPConnection) -> str:
    scheme: str = connection.scope["scheme"]
    return {"ws": "http", "wss": "https"}.get(scheme, scheme)
