"""How long work tells a person what it does. Only doors draw on a terminal; they pass a `Reporter` down."""

from collections.abc import Iterator
from contextlib import contextmanager


class Bar:
    """Progress towards a total. This one shows nothing."""

    def update(self, count: float = 1) -> None:
        """So much more is done."""

    def resume(self) -> None:
        """The time since the last update counts for nothing."""

    def note(self, text: str) -> None:
        """A few words behind the bar."""


class Reporter:
    """Listens to long work. This one says nothing."""

    def say(self, text: str) -> None:
        """A line for the person."""

    @contextmanager
    def bar(self, total: float | None, what: str, unit: str = "", done: float = 0) -> Iterator[Bar]:
        """Progress of the block.

        Args:
          total: None where it is not known.
          done: how much of it was there before.
        """
        yield Bar()


SILENT = Reporter()
