"""Lines and bars on the terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from talkverse_jax.core.reporting import Bar, Reporter


class TerminalReporter(Reporter):
    """Lines on stdout, bars on stderr."""

    def say(self, text: str) -> None:
        print(text)

    @contextmanager
    def bar(self, total: int | None, what: str, unit: str = "B") -> Iterator[Bar]:
        with tqdm(total=total, desc=what, unit=unit, unit_scale=True) as bar:
            yield bar
