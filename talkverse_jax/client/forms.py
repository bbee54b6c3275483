"""The fields of a request as the parts of a multipart form, as `POST /v1/videos` reads them.

An object becomes parts with brackets (`bbox[person1][]`), a list repeated parts, and a file a part of its own. Files
are opened anew for every try: what a broken connection has read of them does not count.
"""

import contextlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

# A picture, a video or a sound: a path, the bytes of a file, a file opened in binary mode (sent from its beginning), or
# a URL (`data:`, or `https:` on a host that the server allows).
Reference = str | os.PathLike[str] | bytes | IO[bytes]

_REFERENCES = frozenset(
    ("input_reference", "image_reference", "video_reference", "audio_reference", "audio_reference_2", "audio", "mask")
)
_SCHEMES = ("data:", "http://", "https://")

Parts = list[tuple[str, Any]]


def flattened(fields: Mapping[str, Any]) -> Parts:
    """The parts of a form: texts, and files as `Path`, bytes or open files. None is left out.

    Raises:
      FileNotFoundError: a path of a reference is no file.
      ValueError: an open file is not in binary mode.
    """
    return [part for name, value in fields.items() for part in _parts(name, name, value)]


def _parts(name: str, field: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Of one value.

    Args:
      name: of the part, with brackets.
      field: the innermost name, which tells whether a text is a path.
    """
    if value is None:
        return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _parts(f"{name}[{key}]", str(key), inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _parts(f"{name}[]", field, inner)
    elif isinstance(value, bool):
        yield name, str(value).lower()
    elif isinstance(value, (bytes, bytearray)):
        yield name, bytes(value)
    elif isinstance(value, os.PathLike):
        yield name, _file(os.fspath(value))
    elif hasattr(value, "read"):
        yield name, _binary(name, value)
    elif isinstance(value, str) and field in _REFERENCES and not value.startswith(_SCHEMES):
        yield name, _file(value)
    else:
        yield name, str(value)


def _file(path: str) -> Path:
    if not os.path.isfile(path):
        raise FileNotFoundError(2, "there is no such file", path)
    return Path(path)


def _binary(name: str, file: Any) -> Any:
    """An open file that can be read again for another try."""
    if isinstance(file, io.TextIOBase):
        raise ValueError(f"{name}: the file is open as text; open it with mode 'rb'")
    return file if file.seekable() else file.read()


@contextlib.contextmanager
def opened(parts: Iterable[tuple[str, Any]]) -> Iterator[list[tuple[str, Any]]]:
    """The parts as httpx takes them (`files=`), with all files open and at their beginning.

    A part's name of a file says nothing of its own: the server goes by the bytes.
    """
    with contextlib.ExitStack() as stack:
        made = []
        for name, value in parts:
            if isinstance(value, str):
                made.append((name, (None, value.encode())))
                continue
            if isinstance(value, Path):
                value = stack.enter_context(value.open("rb"))
            elif not isinstance(value, bytes):
                value.seek(0)
            made.append((name, ("file", value, "application/octet-stream")))
        yield made
