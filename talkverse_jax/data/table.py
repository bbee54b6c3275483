"""Tables that people write: CSV, a row a line, with a line of column names at the top.

What spreadsheets make of them is read: cells that are separated by semicolons or tabs, spaces around names and quotes,
a line `sep=;`. A row that has not as many cells as there are columns is an error: a caption with commas and no quotes
would lose its end without a word.
"""

import csv
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from talkverse_jax.core.errors import UserError

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_LONGEST_CELL = 2**22  # characters; captions of more than 128 KB, the usual limit, exist
_SAYS_SEPARATOR = re.compile(r'"?sep=([,;\t])"?\s*')


@dataclass(frozen=True)
class Table:
    """A table that is read as it is asked for.

    Attributes:
      columns: their names.
      separator: of the cells, in words, as `semicolons`.
      rows: the number of the line in which each row ends, and its cells by column.
    """

    columns: tuple[str, ...]
    separator: str
    rows: Iterator[tuple[int, dict[str, str]]]


def read_table(lines: Iterator[str], where: str, known: Sequence[str]) -> Table:
    """The table in lines of text.

    Args:
      lines: each with its end.
      where: the file, for messages.
      known: names of columns, by which the separator is told; none of these may be there twice.

    Raises:
      UserError: a line cannot be read, now or when its row is asked for.
    """
    csv.field_size_limit(_LONGEST_CELL)
    header, skipped = next(lines, ""), 0
    if said := _SAYS_SEPARATOR.fullmatch(header):
        header, skipped = next(lines, ""), 1
    separator = said[1] if said else max(_SEPARATORS, key=lambda each: _known_in(header, each, known))
    reader = _Rows(itertools.chain([header], lines), separator, where, skipped)
    columns = tuple(cell.strip() for cell in next(reader, (0, []))[1])
    for name in known:
        if columns.count(name) > 1:
            raise UserError(f"{where}: two columns {name}; keep one")
    return Table(columns, _SEPARATORS[separator], _checked(reader, columns, where))


def _known_in(header: str, separator: str, known: Sequence[str]) -> int:
    return len({cell.strip(' \t\r\n"') for cell in header.split(separator)} & {*known})


class _Rows:
    """The rows, each with the line in which it ends; begins again at the line after it."""

    def __init__(self, lines: Iterator[str], separator: str, where: str, skipped: int):
        self._reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
        self._where, self._skipped = where, skipped
        self.begin = 0

    def __iter__(self):
        return self

    def __next__(self) -> tuple[int, list[str]]:
        self.begin = self._reader.line_num + 1 + self._skipped
        try:
            cells = next(self._reader)
        except csv.Error as error:
            raise UserError(
                f"{self._where} line {self.begin}: a quote that does not end, or text behind one ({error}); put the "
                'whole cell in quotes, and write "" for each quote in it'
            ) from None
        return self._reader.line_num + self._skipped, cells


def _checked(rows: _Rows, columns: Sequence[str], where: str) -> Iterator[tuple[int, dict[str, str]]]:
    """The cells by column, without spaces around them; blank lines are left out."""
    for line, row in rows:
        cells = [cell.strip() for cell in row]
        if cells in ([], [""]) and len(columns) > 1:
            continue
        if any(cells[len(columns) :]) or len(cells) < len(columns):
            count = f"{len(cells)} cell{'s' * (len(cells) != 1)} in {len(columns)} columns"
            remedy = (
                'put a caption in straight quotes (") if it holds separators or line breaks, or add what is missing'
            )
            raise UserError(f"{where} line {rows.begin}: {count}; {remedy}")
        yield line, dict(zip(columns, cells))
