"""How a pipeline tells what it does, and asks whether to go on. Each caller has its own `Events`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

from talkverse_jax.pipeline.clip import Clip


class Cancelled(Exception):
    """The caller asked to stop; what was finished before is kept."""


class Events:
    """Listens to a job being made. This one says nothing and never stops; override what you need."""

    def phase(self, name: str) -> AbstractContextManager[Any]:
        """The block is work of one kind: loading, encoding, denoising, decoding or writing. Phases do not nest."""
        return nullcontext()

    def planned(self, done: int, count: int | None) -> None:
        """The job has `count` clips (None while nobody knows), of which an earlier run has made `done`."""

    def step(self, index: int, count: int) -> None:
        """Denoising step `index` of `count` of the present clip is done."""

    def clip(self, index: int, count: int | None, preview: Callable[[], Any]) -> None:
        """Clip `index` of `count` is done (`count` is None while nobody knows it).

        Args:
          preview: gives its frames, uint8 [n, H, W, 3]; None in a process that has none.
        """

    def decoded(self, clip: Clip) -> None:
        """A clip can be shown, while what the next one must know of it is not made yet. It has all its frames, also
        those that the video does not show."""

    def notice(self, text: str) -> None:
        """A line for the person who asked for the video."""

    def cancelled(self) -> bool:
        """Whether to stop; asked after every denoising step."""
        return False


class PassedOn(Events):
    """Passes everything on to another listener; override what is to be different."""

    def __init__(self, listener: Events):
        self.listener = listener

    def phase(self, name: str) -> AbstractContextManager[Any]:
        return self.listener.phase(name)

    def planned(self, done: int, count: int | None) -> None:
        self.listener.planned(done, count)

    def step(self, index: int, count: int) -> None:
        self.listener.step(index, count)

    def clip(self, index: int, count: int | None, preview: Callable[[], Any]) -> None:
        self.listener.clip(index, count, preview)

    def decoded(self, clip: Clip) -> None:
        self.listener.decoded(clip)

    def notice(self, text: str) -> None:
        self.listener.notice(text)

    def cancelled(self) -> bool:
        return self.listener.cancelled()


class Together(Events):
    """The events of several videos whose steps are shared."""

    def __init__(self, events: Sequence[Events | None]):
        self._listening = [one for one in events if one is not None]

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        with ExitStack() as stack:
            for one in self._listening:
                stack.enter_context(one.phase(name))
            yield

    def stepped(self, index: int, count: int) -> None:
        """To be called after each step.

        Raises:
          Cancelled: everybody asks to stop.
        """
        for one in self._listening:
            one.step(index, count)
        if all([one.cancelled() for one in self._listening]):  # each must be asked
            raise Cancelled
