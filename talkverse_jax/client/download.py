"""Downloads that go on where they broke off, and end in a file that is whole."""

import hashlib
import os
from pathlib import Path

import httpx

from talkverse_jax.client.connection import Connection, Tries
from talkverse_jax.client.errors import ApiError


def download(connection: Connection, address: str, path: Path, params: dict[str, str]) -> Path:
    """Write what the server has at an address to a file, whose name appears when it is whole.

    What a broken connection or an earlier call has left beside it, `NAME.partial`, is gone on with. The server's ETag
    is the SHA-256 of the bytes: what does not agree with it is fetched anew.

    Raises:
      ApiError: the server refuses.
      ConnectionError: it does not answer, or what came is damaged.
      OSError: the file cannot be written.
    """
    partial = path.with_name(f"{path.name}.partial")
    tries = Tries(True)
    while True:
        try:
            tag = _go_on(connection, address, partial, params)
            if _sha256(partial) == tag:
                os.replace(partial, path)
                return path
            partial.unlink()
            raise ConnectionError(f"{connection.base_url}: what came is not what the server sent; try again")
        except (ApiError, ConnectionError) as error:
            tries.wait(error)


def _go_on(connection: Connection, address: str, partial: Path, params: dict[str, str]) -> str:
    """Fetch what is missing; the SHA-256 that the whole should have."""
    size = partial.stat().st_size if partial.exists() else 0
    headers = {"Range": f"bytes={size}-"} if size else {}
    try:
        with connection.stream("GET", address, headers=headers, params=params) as response:
            goes_on = response.status_code == 206
            with partial.open("ab" if goes_on else "wb") as file, connection.reading(response) as pieces:
                for piece in pieces:
                    file.write(piece)
            return _tag(response)
    except ApiError as error:
        if error.status != 416:
            raise
    return _tag(connection.answer("HEAD", address, params=params))  # all of it is there already, or too much


def _tag(response: httpx.Response) -> str:
    return response.headers.get("etag", "").strip('"')


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
