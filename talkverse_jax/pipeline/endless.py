"""The clips of a video whose end nobody knows: what each shows, and how far its sound must have come."""

import dataclasses
import sys
from typing import Self

from talkverse_jax.pipeline.clip import Timeline

UNENDING = sys.maxsize  # stands for a number that nobody knows


@dataclasses.dataclass(frozen=True)
class Endless(Timeline):
    """Clip after clip, all but the first alike.

    Attributes:
      first: frames that the first clip shows.
      every: frames that each other clip shows.
      known: frames of each other clip that the one before has shown.
      heard_ahead: frames' worth of sound that a clip hears beyond its last frame.
    """

    first: int = 0
    every: int = 0
    known: int = 0
    heard_ahead: int = 0

    @classmethod
    def of(cls, first: int, every: int, known: int = 0, heard_ahead: int = 0) -> Self:
        """Such clips without an end."""
        return cls(UNENDING, (), UNENDING, 0, first, every, known, heard_ahead)

    def begins(self, clip: int) -> int:
        """The number of the first frame that a clip shows."""
        return self.first + (clip - 1) * self.every if clip else 0

    def shown_of(self, clip: int) -> slice:
        return slice(self.known, self.known + self.every) if clip else slice(0, self.first)

    def hears(self, clip: int) -> int:
        """How many frames' worth of sound there must be for a clip."""
        return self.begins(clip + 1) + self.heard_ahead

    def __str__(self) -> str:
        return f"clips of {self.every} frames without an end"
