"""How long a live picture takes from its sound, and what of: counted clip by clip in memory that does not grow."""

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from jaxtyping import Float

# From a clip's first sound to its pictures: until its last sound is there, until it is begun, and its work. `motion` is
# for the next clip, behind the pictures.
PARTS = ("sound", "queue", "features", "denoising", "decoding", "writing", "motion")
_OF_LATENCY = PARTS[:-1]


class ClipWatch:
    """The seconds of one clip's parts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        self._shown = False

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Work of a phase of `Events`."""
        part = {"encoding": "motion" if self._shown else "features"}.get(name, name)
        begin = time.monotonic()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.monotonic() - begin

    def shown(self) -> None:
        """Its pictures are out; what is encoded now is for the next clip."""
        self._shown = True

    @property
    def latency(self) -> float:
        """Seconds from its first sound to its pictures."""
        return sum(self.seconds[part] for part in _OF_LATENCY)


@dataclasses.dataclass
class Tally:
    """Clips of a stretch of time.

    Attributes:
      frames: that they show.
      work: seconds that were not spent waiting for sound.
      worst: the longest latency.
    """

    clips: int = 0
    frames: int = 0
    work: float = 0.0
    worst: float = 0.0
    sums: Float[np.ndarray, " parts"] = dataclasses.field(default_factory=lambda: np.zeros(len(PARTS)))

    def add(self, watch: ClipWatch, frames: int) -> None:
        seconds = [watch.seconds[part] for part in PARTS]
        self.clips, self.frames, self.sums = self.clips + 1, self.frames + frames, self.sums + seconds
        self.work += sum(seconds[2:])
        self.worst = max(self.worst, watch.latency)

    def figures(self) -> dict[str, Any]:
        """Means in seconds, and how many frames a second could be made."""
        means = self.sums / max(1, self.clips)
        return {
            "clips": self.clips,
            "frames": self.frames,
            "frames_a_second": round(self.frames / self.work, 2) if self.work else 0.0,
            "latency": round(float(means[: len(_OF_LATENCY)].sum()), 3),
            "latency_worst": round(self.worst, 3),
            "parts": {part: round(float(mean), 3) for part, mean in zip(PARTS, means)},
        }
