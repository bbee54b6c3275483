"""How long work below a door tells what it does; the door decides what is shown of it."""

from collections.abc import Iterator
from contextlib import contextmanager


class Bar:
    """Counts what is done of some work."""

    def advance(self, count: int = 1, **shown: str) -> None:
        """So many more are done.

        Args:
          shown: what to say beside the count, by name; it stays until the next.
        """


class Reporter:
    """Listens. This one says nothing; override what you need."""

    def say(self, text: str) -> None:
        """A line for the person who gave the command."""

    @contextmanager
    def bar(self, what: str, unit: str, total: int, done: int = 0) -> Iterator[Bar]:
        """The block is work of so many units, some of which were done before.

        Args:
          what: the name of the work.
          unit: in the singular.
        """
        yield Bar()
