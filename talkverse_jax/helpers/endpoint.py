"""One question to an OpenAI-compatible endpoint, with a time limit that holds for all of it.

The standard library's client follows no redirects and asks no proxy of the environment; a timer closes the connection
of an endpoint that says a little now and then.
"""

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from talkverse_jax.core.errors import UserError
from talkverse_jax.helpers.errors import UpstreamError, UpstreamTimeout

_CONNECT = 5.0  # seconds
_PAUSE = 0.5  # seconds before a question is asked once more
_AGAIN = 503  # the status after which it is


@dataclass(frozen=True)
class Endpoint:
    """Where questions are asked.

    Attributes:
      url: without the route.
      key: None of a server that wants none.
      seconds: for an answer, from the beginning on.
      field: the option that names the address, for messages.
    """

    url: str
    key: str | None
    seconds: float
    field: str

    def post(self, route: str, question: dict[str, Any], most: int) -> bytes:
        """The body of the answer; asked once more after a refused connection or status 503.

        Args:
          route: such as "/audio/speech".
          most: bytes that the answer may have.

        Raises:
          UpstreamTimeout: no whole answer came in time.
          UpstreamError: none came, another status than 200, or more bytes.
        """
        body = json.dumps(question).encode()
        until = time.monotonic() + self.seconds
        refused = self._once("POST", route, body, until, most)
        if isinstance(refused, bytes):
            return refused
        time.sleep(min(_PAUSE, max(0.0, until - time.monotonic())))
        answer = self._once("POST", route, body, until, most)
        if isinstance(answer, bytes):
            return answer
        raise self._failed(answer)

    def get(self, route: str, most: int) -> bytes:
        """Likewise, without a question and asked once."""
        answer = self._once("GET", route, None, time.monotonic() + self.seconds, most)
        if isinstance(answer, bytes):
            return answer
        raise self._failed(answer)

    def _once(self, method: str, route: str, body: bytes | None, until: float, most: int) -> bytes | str:
        """The answer; or, where it may be asked again, why there is none."""
        try:
            with self._connected(until) as connection, _closed_at(connection, until) as late:
                try:
                    connection.request(method, f"{self._path}{route}", body, self._headers(body))
                    response = connection.getresponse()
                    data = response.read(most + 1)
                except (OSError, http.client.HTTPException):
                    if late.is_set():
                        raise TimeoutError from None
                    raise
                if late.is_set():
                    raise TimeoutError
        except TimeoutError:
            raise UpstreamTimeout(
                f"{self.url}: gave no answer within {self.seconds:g} s; look whether it works, or give it more time",
                field=self.field,
            ) from None
        except ConnectionRefusedError:
            return "refuses connections; start it"
        except (OSError, http.client.HTTPException) as error:
            raise self._failed(f"cannot be asked ({_kind(error)}); look whether it works") from None
        if response.status == _AGAIN:
            return f"answered with status {_AGAIN}; look whether it works"
        if response.status != 200:
            remedy = "its key is wrong or missing" if response.status in (401, 403) else "look at its log"
            raise self._failed(f"answered with status {response.status}; {remedy}")
        if len(data) > most:
            raise self._failed("answers with too much; look at its log")
        return data

    @contextmanager
    def _connected(self, until: float) -> Iterator[http.client.HTTPConnection]:
        parts = urlsplit(self.url)
        assert parts.hostname
        left = min(_CONNECT, until - time.monotonic())
        if left <= 0:
            raise TimeoutError
        if parts.scheme == "https":
            made = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=left, context=ssl.create_default_context()
            )
        else:
            made = http.client.HTTPConnection(parts.hostname, parts.port, timeout=left)
        try:
            made.connect()
            made.sock.settimeout(max(0.001, until - time.monotonic()))
            yield made
        finally:
            made.close()

    @property
    def _path(self) -> str:
        return urlsplit(self.url).path.rstrip("/")

    def _headers(self, body: bytes | None) -> dict[str, str]:
        made = {"Accept": "*/*", "User-Agent": "talkverse_jax"}
        if body is not None:
            made["Content-Type"] = "application/json"
        return made | ({"Authorization": f"Bearer {self.key}"} if self.key else {})

    def _failed(self, why: str) -> UpstreamError:
        return UpstreamError(f"{self.url}: {why}", field=self.field)


def key_of(value: str | None, name: str) -> str | None:
    """A key of the environment.

    Raises:
      UserError: it has characters that no key has.
    """
    key = (value or "").strip()
    if not all("!" <= letter <= "~" for letter in key):
        raise UserError(f"{name}: has characters that no key has; set it again")
    return key or None


@contextmanager
def _closed_at(connection: http.client.HTTPConnection, until: float) -> Iterator[threading.Event]:
    """Closes a connection at that time, which ends whatever waits for it; the event tells whether it did."""
    late = threading.Event()
    with socket.socket(fileno=socket.dup(connection.sock.fileno())) as raw:  # below TLS

        def close() -> None:
            late.set()
            with suppress(OSError):
                raw.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(max(0.0, until - time.monotonic()), close)
        timer.daemon = True
        timer.start()
        try:
            yield late
        finally:
            timer.cancel()
            timer.join()


def _kind(error: Exception) -> str:
    """What is wrong, without a word of the other side's."""
    if isinstance(error, http.client.HTTPException):
        return "no HTTP"
    if isinstance(error, ssl.SSLError):
        return "its certificate or TLS"
    if isinstance(error, socket.gaierror):
        return "no such host"
    return getattr(error, "strerror", None) or type(error).__name__
