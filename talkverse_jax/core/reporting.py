"""How long work tells a person what it does, wherever that person is; nothing below `cli` prints."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Bar(Protocol):
    """Work under way, of which more and more is done."""

    def update(self, n: int, /) -> Any:
        """So much more is done."""


class Reporter:
    """Listens to long work. This one says nothing; override what you need."""

    def say(self, text: str) -> None:
        """A line for the person who asked for the work."""

    @contextmanager
    def bar(self, total: int | None, what: str, unit: str = "B") -> Iterator[Bar]:
        """Progress of the work in the block.

        Args:
          total: units of all of it, where that is known.
          what: its name, for people.
          unit: what is counted; B: bytes.
        """
        yield _Unseen()


class _Unseen:
    def update(self, n: int, /) -> None:
        pass


SILENT = Reporter()
