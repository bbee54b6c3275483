"""What the commands draw on the terminal: bars and lines, on stderr."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from tqdm import tqdm

from talkverse_jax.core.reporting import Bar, Reporter
from talkverse_jax.pipeline.events import Events
from talkverse_jax.sharding.distributed import is_main


def say(line: str, file: TextIO | None = None) -> None:
    """Print a line above the bars, in the process that speaks."""
    if is_main():
        tqdm.write(line, file=file or sys.stderr)


class _Tqdm(Bar):
    def __init__(self, bar: tqdm):
        self._bar = bar

    def update(self, count: float = 1) -> None:
        self._bar.update(count)

    def resume(self) -> None:
        self._bar.unpause()

    def note(self, text: str) -> None:
        self._bar.set_postfix_str(text)


class TerminalReporter(Reporter):
    """Lines and bars of long work.

    Attributes:
      lines: where lines go; by default beside the bars, to stderr.
    """

    def __init__(self, lines: TextIO | None = None):
        self._lines = lines

    def say(self, text: str) -> None:
        say(text, self._lines)

    @contextmanager
    def bar(self, total: float | None, what: str, unit: str = "", done: float = 0) -> Iterator[Bar]:
        how: dict[str, Any] = dict(unit_scale=unit == "B", dynamic_ncols=True, file=sys.stderr)
        with tqdm(total=total, initial=done, desc=what, unit=unit, **how) as bar:
            yield _Tqdm(bar)


class TerminalEvents(Events):
    """Two bars, clips and the steps of the clip in work, each with the time left; a context manager."""

    def __init__(self):
        self._clips: tqdm | None = None
        self._steps: tqdm | None = None

    def __enter__(self) -> "TerminalEvents":
        return self

    def __exit__(self, *_: Any) -> None:
        self._close()

    def _close(self) -> None:
        for bar in (self._steps, self._clips):
            if bar is not None:
                bar.close()

    def planned(self, done: int, count: int | None) -> None:
        self._clips = self._bar(count, "clips", "clip", position=0, initial=done)

    def step(self, index: int, count: int) -> None:
        if self._steps is None:
            hidden = not sys.stderr.isatty()  # below another bar it needs a terminal
            self._steps = self._bar(count, "steps", "step", hidden, position=1, leave=False)
        if index == 0:
            self._steps.reset(count)
        self._steps.update()

    def clip(self, index: int, count: int | None, preview: Callable[[], Any]) -> None:
        if self._clips is not None:
            self._clips.update()
        if index + 1 == count:
            self._close()  # so that what is said of the finished video stands last

    def notice(self, text: str) -> None:
        say(text)

    @staticmethod
    def _bar(total: int | None, what: str, unit: str, hidden: bool = False, **how: Any) -> tqdm:
        shown: dict[str, Any] = dict(dynamic_ncols=True, file=sys.stderr, disable=hidden or not is_main())
        return tqdm(total=total, desc=what, unit=unit, **shown, **how)
