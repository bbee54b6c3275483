"""Text files that people write: prompts, lists, tables, TOML. All of them are read here, in one way.

UTF-8 is read, with or without a byte order mark, and UTF-16 with one; the mark is no part of the text. Anything else
is refused: of an 8-bit text nobody can tell whether it is cp1252, GBK or Shift-JIS, and a wrong guess would be drawn or
learnt. A line ends at \\n, \\r\\n or \\r. What else Unicode calls the end of a line (U+0085, U+2028, U+2029) is of a
text like any letter: word processors leave it in prompts.
"""

import codecs
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import existing_file

_PIECE = 2**20  # bytes that are decoded at once
_LONGEST_LINE = 2**22  # characters
_MOST = 2**28  # bytes of a file that is read whole
_SAVE = "save it as plain text in UTF-8 (in Excel: CSV UTF-8)"
_LINE_END = re.compile(r"\r\n|\r|\n")
_HALVES = re.compile("[\ud800-\udfff]")
_CURLY_QUOTES = re.compile("[\u2018-\u201f\u00ab\u00bb]")

# What files begin with that are no texts, though people take them for some.
_NO_TEXTS = {
    b"PK\x03\x04": "a zip archive, as documents of Word and Excel are",
    b"\xd0\xcf\x11\xe0": "a document of an old Word or Excel",
    b"{\\rtf": "rich text (RTF)",
    b"\x1f\x8b": "packed with gzip",
    codecs.BOM_UTF32_LE: "in UTF-32",
    codecs.BOM_UTF32_BE: "in UTF-32",
}
_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def read_text(path: str | Path, what: str, most: int = _MOST) -> str:
    """The text of a file on this machine; its lines end with \\n.

    Args:
      what: what the file should hold, for the message: "a prompt".
      most: bytes it may have.

    Raises:
      UserError: there is no such file, it is too large, or no text in UTF-8 or in UTF-16 with a mark.
    """
    with existing_file(path, what).open("rb") as file:
        text = "".join(_decoded(file, str(path), most))
    return _LINE_END.sub("\n", text)


def lines(text: str) -> list[str]:
    """The lines of a text of `read_text`."""
    return text.split("\n")


def lines_of(file: IO[bytes], where: str) -> Iterator[str]:
    """The lines of an open file of any size, each with its end.

    Args:
      where: the file's name, for messages.

    Raises:
      UserError: as `read_text`, or a line is longer than any text has.
    """
    rest, number = "", 0
    for piece in _decoded(file, where):
        whole = io.StringIO(rest + piece, newline="").readlines()
        rest = whole.pop() if whole and not whole[-1].endswith(("\n", "\r")) else ""
        number += len(whole)
        if len(rest) > _LONGEST_LINE:
            raise UserError(f"{where} line {number + 1}: longer than {_LONGEST_LINE:,} characters; give a text file")
        yield from whole
    if rest:
        yield rest


def _decoded(file: IO[bytes], where: str, most: int | None = None) -> Iterator[str]:
    """The text in pieces; no piece ends between \\r and \\n."""
    data = file.read(_PIECE)
    encoding, mark = _encoding(data, where)
    inner = codecs.getincrementaldecoder(encoding)()
    decoder = io.IncrementalNewlineDecoder(inner, translate=False)
    size, line, fed = len(data), 1, data[mark:]
    while True:
        if most is not None and size > most:
            raise UserError(f"{where}: larger than {most:,} bytes; give a text file")
        try:
            piece = decoder.decode(fed, final=not data)
        except UnicodeDecodeError as error:
            line += len(_LINE_END.findall(error.object[: error.start].decode(encoding)))
            name = "UTF-8" if encoding == "utf-8" else "UTF-16"
            fault = f"byte 0x{error.object[error.start]:02x} is not {name}"
            raise UserError(f"{where} line {line}: {fault}; {_SAVE}") from None
        if "\0" in piece:
            line += len(_LINE_END.findall(piece[: piece.index("\0")]))
            raise UserError(f"{where} line {line}: byte 0x00, which no text has (UTF-16 without a mark?); {_SAVE}")
        line += len(_LINE_END.findall(piece))
        yield piece
        if not data:
            return
        data = fed = file.read(_PIECE)
        size += len(data)


def _encoding(head: bytes, where: str) -> tuple[str, int]:
    """The encoding by a file's first bytes, and how many of them are its mark."""
    for begin, kind in _NO_TEXTS.items():
        if head.startswith(begin):
            raise UserError(f"{where}: is {kind}; {_SAVE}")
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return encoding, len(mark)
    return "utf-8", 0


def is_text(value: str) -> bool:
    """Whether it can be written in UTF-8. What Python makes of other bytes on a command line or in the name of a file
    cannot, nor can half a surrogate pair, which JSON may hold.
    """
    return not _HALVES.search(value)


def hint(line: str) -> str:
    """What may be wrong with a line of TOML or JSON that cannot be read, as the end of a message."""
    if _CURLY_QUOTES.search(line):
        return '; write straight quotes (")'
    if "\\" in line:
        return "; a \\ in quotes begins an escape: write / or \\\\"
    return "; mend it"
