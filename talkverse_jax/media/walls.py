"""What a file may be and cost that somebody else made: looked at before it is decoded, and again while it is."""

from dataclasses import dataclass

from talkverse_jax.core.errors import UserError
from talkverse_jax.media.kinds import KINDS, Kinds

MAX_PIXELS = 89_000_000
MOST_PIXELS = 178_000_000  # that can be let in: above, Pillow refuses by itself
MAX_SECONDS = 14_400

_MILLION = 10**6


class AboveLimit(UserError):
    """A file costs more than is let in."""


class TooLong(AboveLimit):
    """A sound or a video lasts longer than is let in."""


class Unusable(UserError):
    """A file is whole, but there is too little in it, or none of what is needed."""


@dataclass(frozen=True)
class Child:
    """What a process that reads a file may take.

    Attributes:
      memory: bytes, beside those of the program itself.
      seconds: of work in all, and of waiting for a piece.
    """

    memory: int = 4 << 30
    seconds: float = 600


@dataclass(frozen=True)
class Walls:
    """What is let in.

    Attributes:
      kinds: of files.
      max_pixels: of a picture, and of a video's frame.
      max_seconds: of a sound, and of a video to dub.
      rates: the least and the most samples a second, in Hz.
      max_channels: of a sound.
      child: the limits of processes that read files; None to read them in this one.
      flags: whether a person can raise limits by flags of these names, which messages tell then.
    """

    kinds: Kinds = KINDS["all"]
    max_pixels: int = MAX_PIXELS
    max_seconds: float = MAX_SECONDS
    rates: tuple[int, int] = (4_000, 768_000)
    max_channels: int = 64
    child: Child | None = None
    flags: bool = False

    def check_pixels(self, path: object, width: int, height: int, what: str) -> None:
        """Raises:
        AboveLimit: a picture, or a video's, is too large.
        """
        if width * height > self.max_pixels:
            raise AboveLimit(
                f"{path}: more than {self.max_pixels / _MILLION:g} million pixels ({width}x{height}); scale the {what} "
                f"down first{self._or('max_pixels')}"
            )

    def check_seconds(self, path: object, seconds: float, what: str) -> None:
        """Raises:
        TooLong: a sound, or a video, is.
        """
        if seconds > self.max_seconds:
            raise TooLong(f"{path}: more than {self.max_seconds:g} s; give a shorter {what}{self._or('max_seconds')}")

    def check_sound(self, path: object, rate: int, channels: int) -> None:
        """Raises:
        AboveLimit: samples a second, or channels, that no sound has.
        """
        least, most = self.rates
        if not least <= rate <= most:
            raise AboveLimit(f"{path}: {rate} samples a second; save it with {least} to {most}, such as 48000")
        if channels > self.max_channels:
            raise AboveLimit(f"{path}: {channels} channels; save it with at most {self.max_channels}, such as 2")

    def _or(self, flag: str) -> str:
        return f", or raise --{flag}" if self.flags else ""


LOCAL = Walls()
