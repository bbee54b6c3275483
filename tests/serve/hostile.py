"""Requests that no server should be hurt by, each with what must come of it."""

import io
import json
import socket
import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.serve.processes import ROOT

FACE = (ROOT / "assets" / "face.png").read_bytes()
SOUND = (ROOT / "assets" / "speech.flac").read_bytes()
NAMES = ("../../../../tmp/stolen.png", "a\nb\r\nSet-Cookie: x.png", "/etc/passwd", "..\\..\\x.png\0")
_FIELDS = {"prompt": "A person talks.", "num_clip": "1", "seed": "7"}
_CUT = "cut off"  # no answer, and the connection ends
Outcome = tuple[int | str, str]


def job(client: httpx.Client, number: int) -> httpx.Response:
    """A request that is good but for its names."""
    name = NAMES[number % len(NAMES)]
    files = {"input_reference": (name, FACE, "text/x-python"), "audio_reference": (name, SOUND, name[:5].strip())}
    return client.post("/v1/videos", data=_FIELDS, files=files)


def _posted(picture: bytes = FACE, sound: bytes = SOUND, name: str = "a.png") -> Callable[[httpx.Client], Outcome]:
    def request(client: httpx.Client) -> Outcome:
        files = {"input_reference": (name, picture), "audio_reference": (name, sound)}
        return _told(client.post("/v1/videos", data=_FIELDS, files=files))

    return request


def _told(answer: httpx.Response) -> Outcome:
    return answer.status_code, "" if answer.status_code < 400 else answer.json()["error"]["code"]


def _asked(headers: dict[str, str]) -> Callable[[httpx.Client], Outcome]:
    return lambda client: _told(client.get("/v1/videos", headers=headers))


def _raw(sent: bytes, *, then: bytes = b"", pause: float = 0.0, shut: bool = False, gone: bool = False):
    """Bytes on a connection, more of them now and then, until an answer comes.

    Args:
      shut: nothing more follows, and the other side is told so.
      gone: the connection is closed at once.
    """

    def request(client: httpx.Client) -> Outcome:
        place = (client.base_url.host, client.base_url.port or 80)
        with socket.create_connection(place, timeout=90) as connection:
            connection.sendall(sent)
            if gone:
                return _CUT, ""
            if shut:
                connection.shutdown(socket.SHUT_WR)
            answer = _answer(connection, then, pause)
        head, _, body = answer.partition(b"\r\n\r\n")
        return (int(head.split()[1]), json.loads(body)["error"]["code"]) if head else (_CUT, "")

    return request


def _answer(connection: socket.socket, then: bytes, pause: float) -> bytes:
    found, end = b"", time.monotonic() + 90
    connection.settimeout(pause or 90)
    while time.monotonic() < end:
        try:
            piece = connection.recv(65536)
            found += piece
            if not piece:
                break
        except TimeoutError:
            try:
                connection.sendall(then)
            except OSError:
                break
        except OSError:
            break
    return found


def _head(*lines: str) -> bytes:
    told = ("POST /v1/videos HTTP/1.1", "Host: localhost", "Content-Type: multipart/form-data; boundary=b", *lines)
    return "\r\n".join((*told, "", "")).encode()


def _chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


def _png(width: int, height: int) -> bytes:
    """A picture whose header promises so many pixels, all of them black and a few bytes long."""

    def part(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(10_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", rows) + part(b"IEND", b"")


def _zip_bomb() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(20_000_000))
    return made.getvalue()


_PLAYLIST = b"ffconcat version 1.0\nfile /etc/passwd\n"
_M3U = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"
_PICTURE = b'--b\r\nContent-Disposition: form-data; name="input_reference"; filename="a"\r\n\r\n'
_PART = b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nA person'

# What is asked, and the answers that are right.
HOSTILE: dict[str, tuple[Callable[[httpx.Client], Outcome], set[Outcome]]] = {
    "2 GB announced": (_raw(_head(f"Content-Length: {2 << 30}")), {(413, "request_too_large")}),
    "2 GB unannounced": (
        _raw(_head("Transfer-Encoding: chunked") + _chunk(_PICTURE), then=_chunk(bytes(1 << 20)), pause=0.02),
        {(413, "request_too_large"), (_CUT, "")},  # an answer may be lost behind what is still sent
    ),
    "zip bomb": (_posted(_zip_bomb()), {(415, "unsupported_media")}),
    "picture of 60,000 x 60,000": (_posted(_png(60_000, 60_000)), {(413, "image_too_large")}),
    "text named .png": (_posted(b"I am a picture.\n" * 99), {(415, "unsupported_media")}),
    "playlist as a sound": (_posted(sound=_PLAYLIST, name="a.mp4"), {(415, "unsupported_media")}),
    "playlist as a video": (_posted(_M3U, name="../a.m3u8"), {(415, "unsupported_media")}),
    "half a picture": (_posted(FACE[: len(FACE) // 2]), {(422, "unreadable_media")}),
    "slow head": (_raw(b"GET /health HTTP/1.1\r\nHost: local", then=b"h", pause=1.0), {(_CUT, "")}),
    "slow body": (_raw(_head("Content-Length: 9999") + _PART, pause=60), {(408, "request_timeout")}),
    "half a body": (_raw(_head("Content-Length: 9999") + _PART, shut=True), {(_CUT, ""), (400, "invalid_multipart")}),
    "vanished": (_raw(_head("Content-Length: 9999") + _PART, gone=True), {(_CUT, "")}),
    "vanished from events": (_raw(b"GET /v1/videos HTTP/1.1\r\nHost: localhost\r\n\r\n", gone=True), {(_CUT, "")}),
    "another's Host": (_asked({"Host": "evil.example"}), {(403, "forbidden_host")}),
    "another's Origin": (_asked({"Origin": "https://evil.example"}), {(403, "forbidden_origin")}),
    "no Origin": (_asked({"Origin": "null"}), {(403, "forbidden_origin")}),
}


def stray(folder: Path) -> list[str]:
    """Files whose names are a client's."""
    wrong = ("stolen", "passwd", "Set-Cookie", "x.png", ".m3u8")
    found = [path.name for path in folder.rglob("*") if any(part in path.name for part in wrong)]
    return found + [path for path in ("/tmp/stolen.png",) if Path(path).exists()]
