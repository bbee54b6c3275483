"""A server of files that requests name by their addresses."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.serve.http.serving import picture

SEEN: list[dict[str, str]] = []  # headers of requests


class _Files(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        SEEN.append(dict(self.headers))
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "/a.png")
            self.end_headers()
        elif self.path.startswith("/a.png"):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(picture())
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(bytes(65536))
            except OSError:
                pass
        else:
            self.send_error(404, "secret words")

    def log_message(self, *args):
        pass


@contextmanager
def serving_files() -> Iterator[int]:
    """The port of such a server."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
