"""From what a request says a file is - an upload, a data URL, an address - to a file of ours."""

import asyncio
import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from talkverse_jax.serve.http.errors import Fault, said
from talkverse_jax.serve.http.fetch import Fetcher
from talkverse_jax.serve.http.forms import Bodies
from talkverse_jax.serve.http.kinds import Kind, kind_of
from talkverse_jax.serve.http.multipart import Part

_URLS = ("image_url", "video_url", "audio_url")
_CHARACTERS = 4 * 64 * 1024  # of base64, decoded at a time
_LONGEST_URL = 8192  # characters, of an address

From = Literal["upload", "url"]


@dataclass(frozen=True)
class Reference:
    """A file that a request names.

    Attributes:
      path: of our copy.
      param: the field, as the client named it.
      source: where it came from.
    """

    path: Path
    param: str
    source: From
    kind: Kind
    sha256: str
    size: int


class References:
    """Takes files out of requests."""

    def __init__(self, fetcher: Fetcher, bodies: Bodies):
        self._fetcher, self._bodies = fetcher, bodies

    async def take(self, value: Any, param: str, path: Path, allowed: Sequence[Kind]) -> Reference:
        """Have a field's file under a name of ours.

        Args:
          value: of the field: a part, a text or an object.
          path: that becomes the file.
          allowed: kinds that the field takes.

        Raises:
          Fault: there is none, or it is of another kind.
        """
        source, digest = await self._place(value, param, path)
        kind = await asyncio.to_thread(kind_of, path)
        if kind is None or kind not in allowed:
            what = " or ".join(_SUCH[each] for each in allowed)
            raise Fault("unsupported_media", f"{param}: give {what}", param)
        digest = digest or await asyncio.to_thread(_digest, path)
        return Reference(path, param, source, kind, digest, path.stat().st_size)

    async def _place(self, value: Any, param: str, path: Path) -> tuple[From, str | None]:
        if isinstance(value, Part) and value.is_file:
            await asyncio.to_thread(value.path.rename, path)
            return "upload", value.sha256
        if isinstance(value, Part):
            async with self._bodies.holding(value.size):
                text = await asyncio.to_thread(_text, value, param)
                given = _object(text, param) if text.lstrip().startswith("{") else text
                return await self._from_url(*_url(given, param), path)
        return await self._from_url(*_url(value, param), path)

    async def _from_url(self, url: str, param: str, path: Path) -> tuple[From, str | None]:
        if url[:5].lower() == "data:":
            await asyncio.to_thread(_decode, url, param, path)
            return "upload", None
        if url[:5].lower() not in ("http:", "https") or len(url) > _LONGEST_URL:
            raise Fault("url_not_allowed", f"{param}: give a data: URL, or http(s) of an allowed host", param)
        await self._fetcher.fetch(url, path, param)
        return "url", None


_SUCH: dict[Kind, str] = {
    "picture": "a picture (PNG, JPEG, WebP)",
    "film": "a video (MP4, MOV, WebM, Matroska)",
    "sound": "a sound (WAV, FLAC, Ogg, MP3, M4A)",
}


def _text(part: Part, param: str) -> str:
    try:
        return part.text()
    except ValueError:
        raise Fault("invalid_value", f"{param}: is no UTF-8; send text in UTF-8", param) from None


def _object(text: str, param: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Fault("invalid_value", f"{param}: is no JSON object; give one such as an image_url", param) from None


def _url(value: Any, param: str) -> tuple[str, str]:
    """The URL, and what the client called it."""
    if isinstance(value, dict):
        if "file_id" in value:
            raise Fault(
                "unsupported_parameter", f"{param}.file_id: no files are kept here; send it", f"{param}.file_id"
            )
        names = [name for name, url in value.items() if url is not None]
        for name in names:
            if name not in _URLS:
                inside = said(f"{param}.{name}")
                raise Fault("unknown_parameter", f"{inside}: give {', '.join(_URLS)}", inside)
        if len(names) != 1:
            raise Fault("invalid_value", f"{param}: give one of {', '.join(_URLS)}", param)
        value, param = value[names[0]], f"{param}.{names[0]}"
        if isinstance(value, Part):
            value = _text(value, param)
    if not isinstance(value, str):
        raise Fault("invalid_type", f"{param}: give a file, a URL, or an object with one", param)
    return value.strip() if len(value) <= _LONGEST_URL else value, param


def _decode(url: str, param: str, path: Path) -> None:
    """Write what a data URL holds; only base64 is understood, its media type is ignored."""
    comma = url.find(",", 0, 1000)
    if comma < 0 or not url[:comma].lower().endswith(";base64"):
        raise Fault("invalid_data_url", f"{param}: give data:TYPE;base64,DATA", param)
    try:
        with path.open("xb") as file:
            for start in range(comma + 1, len(url), _CHARACTERS):
                piece = url[start : start + _CHARACTERS]
                if piece.endswith("=") and start + _CHARACTERS < len(url):
                    raise ValueError
                file.write(base64.b64decode(piece, validate=True))
    except (binascii.Error, ValueError):
        raise Fault("invalid_data_url", f"{param}: its base64 is damaged; encode the file again", param) from None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
