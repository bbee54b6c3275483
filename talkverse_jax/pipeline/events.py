"""How a pipeline tells what it does, and asks whether to go on. Each caller has its own `Events`."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any


class Cancelled(Exception):
    """The caller asked to stop; what was finished before is kept."""


class Events:
    """Listens to a job being made. This one says nothing and never stops; override what you need."""

    def phase(self, name: str) -> AbstractContextManager[Any]:
        """The block is work of one kind: loading, encoding, denoising, decoding or writing. Phases do not nest."""
        return nullcontext()

    def step(self, index: int, count: int) -> None:
        """Denoising step `index` of `count` of the present clip is done."""

    def clip(self, index: int, count: int | None, preview: Callable[[], Any]) -> None:
        """Clip `index` of `count` is done (`count` is None while nobody knows it).

        Args:
          preview: gives its frames, uint8 [n, H, W, 3]; None in a process that has none.
        """

    def notice(self, text: str) -> None:
        """A line for the person who asked for the video."""

    def cancelled(self) -> bool:
        """Whether to stop; asked after every denoising step."""
        return False
