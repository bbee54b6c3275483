"""Requests to one server: the key, what is asked again and when, and refusals as `ApiError`."""

import contextlib
import os
import random
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from talkverse_jax.client.errors import ApiError
from talkverse_jax.client.forms import Parts, opened

_KEY = "TALKVERSE_API_KEY"
_TRIES = 6  # of a request, before the last reason is told: with the server's own waits, or pauses that double up to 8 s
_FIRST_PAUSE = 0.5  # seconds
_AIR = 300.0  # seconds that a first request may still be in the air
_LATER = (429, 503)
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Connection:
    """What all calls of a client share. Threads may use it together.

    Attributes:
      base_url: the server's address, without /v1.

    Raises:
      ValueError: `base_url` is no address.
    """

    def __init__(self, base_url: str, api_key: str | None, timeout: float):
        address = httpx.URL(base_url)
        if address.scheme not in ("http", "https") or not address.host:
            raise ValueError(f"{base_url}: no address of a server; give it as http://HOST:PORT")
        self.base_url = base_url.rstrip("/").removesuffix("/v1")
        key = api_key or os.environ.get(_KEY, "").partition(",")[0].strip()
        headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {})
        # A proxy of the environment is not asked for this machine's own server: it would look on its own.
        outside = address.host not in _LOOPBACK
        self._http = httpx.Client(base_url=self.base_url, headers=headers, timeout=timeout, trust_env=outside)

    def close(self) -> None:
        self._http.close()

    def json(self, method: str, path: str, *, again: bool = True, **request: Any) -> Any:
        """The object that the server answers with; for the rest see `answer`."""
        response = self.answer(method, path, again=again, **request)
        try:
            return response.json()
        except ValueError:  # another program listens there
            raise ApiError.of(response) from None

    def answer(
        self, method: str, path: str, *, again: bool = True, parts: Parts | None = None, **request: Any
    ) -> httpx.Response:
        """Ask, and read the answer.

        Args:
          again: ask again after a lost connection, 429 and 503, as it does no harm.
          parts: of a multipart form.
          request: what httpx takes besides.

        Raises:
          ApiError: the server refuses.
          ConnectionError: it does not answer.
        """
        tries = Tries(again)
        while True:
            try:
                with self.stream(method, path, parts=parts, **request) as response, self._losing():
                    response.read()
                    return response
            except (ApiError, ConnectionError) as error:
                tries.wait(error)

    @contextlib.contextmanager
    def stream(self, method: str, path: str, *, parts: Parts | None = None, **request: Any) -> Iterator[httpx.Response]:
        """Ask once, and leave the answer's body to be read in the block; raises as `answer` does."""
        with opened(parts or ()) as files, self._losing():
            built = self._http.build_request(method, path, files=files or None, **request)
            response = self._http.send(built, stream=True)
        try:
            if response.is_success:
                yield response
                return
            with self._losing():
                response.read()
        finally:
            response.close()
        raise ApiError.of(response)

    @contextlib.contextmanager
    def reading(self, response: httpx.Response) -> Iterator[Iterator[bytes]]:
        """The pieces of an answer's body.

        Raises:
          ConnectionError: it breaks off.
        """
        with self._losing():
            yield response.iter_bytes()

    @contextlib.contextmanager
    def _losing(self) -> Iterator[None]:
        """What httpx says of a lost connection as Python's own error, which says where."""
        try:
            yield
        except httpx.TimeoutException:
            raise ConnectionError(f"{self.base_url}: no answer in time; is the server running?") from None
        except httpx.TransportError as error:
            raise ConnectionError(
                f"{self.base_url}: {error or 'the connection broke'}; is the server running?"
            ) from None


class Tries:
    """How often a request is made: waits, or raises the reason when it is not to be made again."""

    def __init__(self, again: bool):
        self._left = _TRIES if again else 1
        self._pause, self._began = _FIRST_PAUSE, time.monotonic()

    def wait(self, reason: ApiError | ConnectionError) -> None:
        """Wait for the next try.

        Raises:
          ApiError, ConnectionError: the reason, where there is none.
        """
        if isinstance(reason, ApiError) and reason.code == "idempotency_in_progress":
            left = time.monotonic() - self._began < _AIR
        else:
            self._left -= 1
            left = self._left > 0 and (not isinstance(reason, ApiError) or reason.status in _LATER)
        if not left:
            raise reason
        told = reason.retry_after if isinstance(reason, ApiError) else None
        time.sleep(told if told is not None else self._pause * random.uniform(0.8, 1.2))
        self._pause = min(2 * self._pause, 8.0)


def query(values: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of an address, without those that are None."""
    return {name: value for name, value in values.items() if value is not None}
