"""An endpoint on this machine that says what a test wants, and keeps what it was asked."""

import dataclasses
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclasses.dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclasses.dataclass(frozen=True)
class Answer:
    """Attributes:
    drip: seconds between two bytes of the body.
    """

    body: bytes = b""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    drip: float = 0.0


@dataclasses.dataclass
class Stub:
    url: str
    asked: list[Asked]


@contextmanager
def stub(answer: Callable[[Asked], Answer]) -> Iterator[Stub]:
    asked: list[Asked] = []

    class Handler(BaseHTTPRequestHandler):
        def _serve(self):
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append(Asked(self.command, self.path, dict(self.headers), json.loads(data) if data else None))
            said = answer(asked[-1])
            with suppress(OSError):  # whoever asked has gone
                self.send_response(said.status)
                for header in (*said.headers, ("Content-Length", str(len(said.body)))):
                    self.send_header(*header)
                self.end_headers()
                for place in range(len(said.body)) if said.drip else ():
                    self.wfile.write(said.body[place : place + 1])
                    time.sleep(said.drip)
                if not said.drip:
                    self.wfile.write(said.body)

        do_GET = do_POST = _serve

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield Stub(f"http://127.0.0.1:{server.server_address[1]}/v1", asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def free_port() -> int:
    """One where nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def chat(text: Any, reason: str = "stop") -> Answer:
    """What a model that talks says."""
    said = {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": reason}]}
    return Answer(json.dumps(said).encode())
