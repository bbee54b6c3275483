"""Sound that comes while it is used: one thread writes it, another waits for it and reads it.

Samples are counted from the first. Only the last seconds are held: what nobody reads any more is forgotten, and a
writer waits while too much is there that nobody has used. What does not come in time is silence, so that whoever reads
goes on at the clock's pace. Until it begins all is silence, for a rehearsal.

Shapes: n samples.
"""

import threading
import time
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float32


class LiveSound:
    """Mono samples in [-1, 1], as they come; safe for one thread that writes and one that reads.

    Args:
      rate: in Hz.
      held: seconds in front of what is used that can still be read.
      room: seconds that may wait to be used; then `write` waits.
      patience: seconds that a sample may be late before it is silence.
      clock: seconds, as of `time.monotonic`.
    """

    def __init__(
        self,
        rate: int,
        *,
        held: float = 30.0,
        room: float = 60.0,
        patience: float = 0.3,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.rate = rate
        self._held, self._patience, self._clock = round(held * rate), patience, clock
        self._room = round(room * rate)
        self._samples = np.zeros(self._held + self._room, np.float32)
        self._first, self._end, self._used = 0, 0, 0  # numbers of the first held sample, and behind the last
        self._changed = threading.Condition()
        self._closed = False
        self._error: BaseException | None = None
        self._begun: float | None = None
        self._dropped = self._silent = 0

    def begin(self) -> None:
        """The first sample comes now."""
        with self._changed:
            self._begun = self._clock()

    def write(self, samples: Float[np.ndarray, " n"]) -> bool:
        """Append samples, as soon as there is room; False once nobody reads any more."""
        samples = np.clip(np.nan_to_num(samples), -1, 1).astype(np.float32)
        for start in range(0, len(samples), self.rate):
            block = samples[start : start + self.rate]
            with self._changed:
                while not self._closed and self._end + len(block) - self._used > self._room:
                    self._changed.wait()
                if self._closed:
                    return False
                self._append(block)
                self._changed.notify_all()
        return True

    def close(self, error: BaseException | None = None) -> None:
        """No more samples come.

        Args:
          error: why, where they should have; the reader gets it.
        """
        with self._changed:
            self._closed, self._error = True, self._error or error
            self._changed.notify_all()

    def wait(self, until: int) -> bool:
        """Wait until sample `until` - 1 is there; silence takes the place of what is too late. False where the sound
        ends before it.

        Raises:
          Exception: that with which the source closed it.
        """
        with self._changed:
            while self._begun is not None and self._end < until:
                if self._error is not None:
                    raise self._error
                if self._closed:
                    return False
                left = self.due(until) + self._patience - self._clock()
                if left > 0:
                    self._changed.wait(left)
                    continue
                missing = min(until - self._end, self.rate)
                self._silent += missing
                self._append(np.zeros(missing, np.float32))
            return True

    def due(self, sample: int) -> float:
        """When a sample comes, by the clock: of sound that comes at its own speed."""
        assert self._begun is not None, "not before it begins"
        return self._begun + (sample + self._dropped) / self.rate

    def read(self, start: int, stop: int) -> Float32[np.ndarray, " n"]:
        """The samples from one to before another, or to the end; zeros before it begins.

        Raises:
          ValueError: `start` is no longer held.
        """
        with self._changed:
            if self._begun is None:
                return np.zeros(stop - start, np.float32)
            if start < self._first:
                raise ValueError(f"sample {start} is no longer held; the first is {self._first}")
            return self._samples[start - self._first : max(start, min(stop, self._end)) - self._first].copy()

    def use(self, until: int) -> None:
        """What lies before sample `until` has been used; there is room for more."""
        with self._changed:
            self._used = max(self._used, min(until, self._end))
            self._changed.notify_all()

    def drop(self, count: int) -> int:
        """Leave out up to so many samples behind what was used, as if they had never come; how many there were."""
        with self._changed:
            count = min(count, self._end - self._used)
            at, end = self._used - self._first, self._end - self._first
            self._samples[at : end - count] = self._samples[at + count : end].copy()
            self._end -= count
            self._dropped += count
            self._changed.notify_all()
            return count

    @property
    def waiting(self) -> float:
        """Seconds that are there and were not used."""
        with self._changed:
            return (self._end - self._used) / self.rate

    @property
    def end(self) -> int:
        """The number of the sample behind the last that is there."""
        with self._changed:
            return self._end

    @property
    def ended(self) -> bool:
        """Whether that is the end."""
        with self._changed:
            return self._closed

    @property
    def dropped(self) -> float:
        """Seconds that were left out."""
        with self._changed:
            return self._dropped / self.rate

    @property
    def silent(self) -> float:
        """Seconds of silence that stand for sound that did not come."""
        with self._changed:
            return self._silent / self.rate

    def _append(self, block: Float32[np.ndarray, " n"]) -> None:
        size = len(self._samples)
        if self._end + len(block) - self._first > size:
            first = max(self._first, min(self._used - self._held, self._end))
            kept = self._samples[first - self._first : self._end - self._first].copy()
            self._samples[: len(kept)], self._first = kept, first
        at = self._end - self._first
        self._samples[at : at + len(block)] = block
        self._end += len(block)
