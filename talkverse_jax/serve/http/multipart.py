"""The parts of a multipart body, written to files as they come. Runs in any thread; knows no fields."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from talkverse_jax.serve.http.errors import Fault

_MOST_PARTS = 64
_LONGEST_NAME = 200  # bytes


@dataclass(frozen=True)
class Part:
    """A part of a form.

    Attributes:
      path: where its bytes are.
      is_file: a file, or else a text.
      named: of a file, whether its name is not empty, which it is where a form's field of files is left empty.
      sha256: of the bytes, in hex.
    """

    path: Path
    size: int
    is_file: bool
    named: bool
    sha256: str

    def text(self) -> str:
        """Raises:
        ValueError: it is no UTF-8.
        """
        return self.path.read_bytes().decode()


class Parts:
    """Takes a body piece by piece.

    Args:
      content_type: of the request; it has the boundary.
      folder: for the files.
      longest_text: bytes of a text.

    Raises:
      Fault: there is no boundary.
    """

    def __init__(self, content_type: str, folder: Path, longest_text: int):
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        self._folder, self._longest_text = folder, longest_text
        self._ended = False
        self._header: tuple[bytearray, bytearray] = bytearray(), bytearray()
        self._disposition = b""
        self._file: BinaryIO | None = None
        self._hash: Any = None
        self._count = self._size = 0
        self._name, self._is_file, self._named = "", False, False
        self.found: list[tuple[str, Part]] = []
        handlers: dict[str, Callable[..., None]] = {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._all,
        }
        try:
            self._parser = MultipartParser(boundary or b"", handlers)  # pyright: ignore[reportArgumentType]  # a TypedDict
        except FormParserError:
            boundary = None
        if not boundary:
            raise Fault("invalid_multipart", "Content-Type has no boundary; let your library write the header")

    def take(self, piece: bytes) -> None:
        """The next bytes.

        Raises:
          Fault: they are no form, or too much of one.
        """
        try:
            self._parser.write(piece)
        except FormParserError:
            raise _broken() from None

    def end(self) -> list[tuple[str, Part]]:
        """All parts in their order, with their names.

        Raises:
          Fault: the body ended before its end.
        """
        if not self._ended:
            raise _broken()
        return self.found

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _begin(self) -> None:
        if self._count == _MOST_PARTS:
            raise Fault("invalid_multipart", f"more than {_MOST_PARTS} parts; send fewer")
        self._count += 1
        self._disposition = b""

    def _header_end(self) -> None:
        name, value = (bytes(part) for part in self._header)
        if name.lower() == b"content-disposition":
            self._disposition = value
        for part in self._header:
            part.clear()

    def _headers_end(self) -> None:
        kind, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"")
        if kind != b"form-data" or not name or len(name) > _LONGEST_NAME:
            raise Fault("invalid_multipart", "a part has no name of its own; send parts as form-data with short names")
        try:
            self._name = name.decode()
        except ValueError:
            raise Fault("invalid_multipart", "a part's name is no UTF-8; use the names of the fields") from None
        self._is_file = b"filename" in options or b"filename*" in options
        self._named = bool(options.get(b"filename") or options.get(b"filename*"))
        self._file = (self._folder / f"part{self._count}").open("xb")
        self._hash, self._size = hashlib.sha256(), 0

    def _data(self, data: bytes, start: int, end: int) -> None:
        assert self._file is not None
        self._size += end - start
        if not self._is_file and self._size > self._longest_text:
            raise Fault("request_too_large", f"a text has more than {self._longest_text} bytes; send it as a file")
        piece = memoryview(data)[start:end]
        self._file.write(piece)
        self._hash.update(piece)

    def _end(self) -> None:
        assert self._file is not None
        self._file.close()
        path = Path(self._file.name)
        part = Part(path, self._size, self._is_file, self._named, self._hash.hexdigest())
        self.found.append((self._name, part))

    def _all(self) -> None:
        self._ended = True


def _broken() -> Fault:
    return Fault("invalid_multipart", "the body is no whole multipart form; send it again")
