"""A request's fields, from multipart or JSON: a tree by name, whose leaves are parts, or values of JSON."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.requests import Request

from talkverse_jax.core import strict_json
from talkverse_jax.core.errors import UserError
from talkverse_jax.serve.http.body import BodyLimits, pieces
from talkverse_jax.serve.http.errors import Fault, said
from talkverse_jax.serve.http.multipart import Part, Parts
from talkverse_jax.serve.options import ServeOptions

MULTIPART, JSON = "multipart/form-data", "application/json"

_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_MAY_BE_EMPTY = {"negative_prompt"}
_DEEPEST = 4
_SMALL = 2**20  # bytes
_HELD, _WAIT = 4, 30.0  # larger texts in memory at a time, and seconds to wait for that


@dataclass(frozen=True)
class Form:
    """What a client sent.

    Attributes:
      values: by name; objects are dicts, lists are lists. What is empty or null is left out.
      shown: names by which the client knows fields, where they differ.
    """

    values: Mapping[str, Any]
    shown: Mapping[str, str] = field(default_factory=dict)


class Bodies:
    """Reads the bodies of a server's requests."""

    def __init__(self, options: ServeOptions):
        self._options = options
        self._held = asyncio.Semaphore(_HELD)

    def kind(self, request: Request, *allowed: str) -> str:
        """`MULTIPART` or `JSON`, checked as far as the headers tell.

        Raises:
          Fault: it is neither, or says that it is too long.
        """
        found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if found not in (allowed or (MULTIPART, JSON)):
            wanted = " or ".join(allowed or (MULTIPART, JSON))
            raise Fault("unsupported_content_type", f"Content-Type is not {wanted}; send that")
        self._limits(found).check_length(request)
        return found

    def _limits(self, kind: str) -> BodyLimits:
        options = self._options
        if kind == JSON:
            return BodyLimits(options.max_json_bytes, "max_json_bytes", options.upload_timeout)
        return BodyLimits(options.max_upload_bytes, "max_upload_bytes", options.upload_timeout)

    @asynccontextmanager
    async def holding(self, size: int) -> AsyncIterator[None]:
        """The block holds a text of so many bytes in memory; of large ones, few may be.

        Raises:
          Fault: too many are, for too long.
        """
        if size <= _SMALL:
            yield
            return
        try:
            await asyncio.wait_for(self._held.acquire(), _WAIT)
        except TimeoutError:
            raise Fault("busy", "too many large requests at once; try again later") from None
        try:
            yield
        finally:
            self._held.release()

    @asynccontextmanager
    async def read(self, request: Request, kind: str, folder: Path) -> AsyncIterator[Form]:
        """The fields, for the block.

        Args:
          folder: an empty one, for files; it can be removed when the fields are used up.

        Raises:
          Fault: the body is too long, stalls, or is not of its kind.
          ClientGone: it ended before its end.
        """
        limits = self._limits(kind)
        if kind == MULTIPART:
            yield Form(await self._multipart(request, limits, folder))
            return
        path = folder / "json"
        with await asyncio.to_thread(path.open, "xb") as file:
            async for piece in pieces(request, limits):
                await asyncio.to_thread(file.write, piece)
        async with self.holding(path.stat().st_size):
            yield Form(await asyncio.to_thread(_json, path))

    async def _multipart(self, request: Request, limits: BodyLimits, folder: Path) -> dict[str, Any]:
        parts = Parts(request.headers["content-type"], folder, self._options.max_json_bytes)
        try:
            async for piece in pieces(request, limits):
                await asyncio.to_thread(parts.take, piece)
        finally:
            parts.close()
        return _tree(parts.end())


def _json(path: Path) -> dict[str, Any]:
    try:
        text = path.read_bytes().decode()
    except ValueError:
        raise Fault("invalid_json", "the body is no UTF-8; send JSON in UTF-8") from None
    path.unlink()
    try:
        values = strict_json.loads(text, "the body")
    except UserError as error:
        raise Fault("invalid_json", said(error.reason)) from None
    if not isinstance(values, dict):
        raise Fault("invalid_json", "the body is no JSON object; send one with the fields by name")
    return {name: value for name, value in values.items() if value is not None}


def _tree(parts: list[tuple[str, Part]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, part in parts:
        match = _NAME.fullmatch(name)
        keys = [match[1], *re.findall(r"\[([^\[\]]*)\]", match[2])] if match else [name]
        if len(keys) > _DEEPEST or "" in keys[:-1]:
            raise Fault("unknown_parameter", f"{said(name)}: no such field; see docs/serving.md", said(name))
        if part.size or (part.is_file and part.named) or name in _MAY_BE_EMPTY:
            _put(made, keys, part, name)
    return made


def _put(made: dict[str, Any], keys: list[str], part: Part, name: str) -> None:
    """Hang a part into the tree: `a[b]` into an object, `a[]` onto a list."""
    twice = Fault("invalid_value", f"{said(name)}: is given twice; give it once", said(".".join(filter(None, keys))))
    as_list = keys[-1] == ""
    *above, last = keys[:-1] if as_list else keys
    for key in above:
        made = made.setdefault(key, {})
        if not isinstance(made, dict):
            raise twice
    if as_list:
        values = made.setdefault(last, [])
        if not isinstance(values, list):
            raise twice
        values.append(part)
    elif last in made:
        raise twice
    else:
        made[last] = part


def remove(folder: Path) -> None:
    """Remove a folder of bodies with all that is in it."""
    shutil.rmtree(folder, ignore_errors=True)
