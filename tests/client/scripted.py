"""A small server whose answers a test writes down, one for each request; it notes what it was asked."""

import contextlib
import dataclasses
import json
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ID = "video_" + "0123456789abcdef" * 2


@dataclasses.dataclass
class Asked:
    """A request, as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def parts(self) -> list[tuple[str, bytes, bool]]:
        """Of a multipart form: name, bytes, and whether it is a file."""
        head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
        found = message_from_bytes(head + self.body).get_payload()
        made = []
        for part in found:
            name = str(part.get_param("name", header="content-disposition"))
            made.append((name, part.get_payload(decode=True), part.get_filename() is not None))
        return made


@dataclasses.dataclass
class Answer:
    """What the server says.

    Attributes:
      cut: bytes of the body after which the connection breaks; None for the whole.
      lost: the connection breaks without an answer.
    """

    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    cut: int | None = None
    lost: bool = False
    stays_open: float = 0.0

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


LOST = Answer(lost=True)


def refusal(status: int, code: str, **headers: str) -> Answer:
    error = {"message": f"{code} it is", "type": "invalid_request_error", "param": "size", "code": code}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, {"error": error}, {"Content-Type": "application/json", "X-Request-Id": "req_1"} | named)


class Scripted:
    """The server: the answers to come, and the requests that came."""

    def __init__(self, address: str):
        self.address, self.asked, self._answers = address, list[Asked](), list[Answer]()
        self.closing = threading.Event()

    def will(self, *answers: Answer | Mapping[str, Any]) -> None:
        """Say these next, in this order; an object is sent as JSON."""
        self._answers += [each if isinstance(each, Answer) else Answer(body=each) for each in answers]

    def take(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        return self._answers.pop(0) if self._answers else Answer(599)

    @property
    def lines(self) -> list[str]:
        return [f"{asked.method} {asked.path}" for asked in self.asked]


@contextlib.contextmanager
def scripted() -> Iterator[Scripted]:
    """Run it in threads of this process."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                super().handle()

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = script.take(Asked(self.command, self.path, headers, body))
            if answer.lost:
                self._break()
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.headers.get("Content-Type") == "text/event-stream":
                self.send_header("Connection", "close")
            elif answer.status != 204:
                self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.content[: answer.cut])
                script.closing.wait(answer.stays_open)
            if answer.cut is not None:
                self._break()

        do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815

        def _break(self) -> None:
            """As a machine that is switched off, a little earlier."""
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
            self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: tests look at what was asked."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    script = Scripted(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield script
    finally:
        script.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def told(**more: Any) -> dict[str, Any]:
    """A video object of the server."""
    video = {"id": ID, "object": "video", "created_at": 1, "status": "queued", "progress": 0, "model": "toy"}
    return video | {"prompt": "p", "seconds": "4.84", "size": "128x128", "notices": [], "settings": {}} | more


def stream(*events: str) -> Answer:
    """An event stream of these texts, after which the server closes."""
    return Answer(body="".join(events).encode(), headers={"Content-Type": "text/event-stream"})


def event(kind: str, data: Mapping[str, Any], id: int | None = None) -> str:
    number = f"id: {id}\n" if id is not None else ""
    return f"{number}event: {kind}\ndata: {json.dumps(data)}\n\n"
