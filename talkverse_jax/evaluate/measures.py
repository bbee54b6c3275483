"""What is measured of a video file: does the mouth follow the sound, and does the picture stay what it was."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from talkverse_jax.core.errors import UserError
from talkverse_jax.evaluate.changes import FrameChanges, Jumps, differences
from talkverse_jax.evaluate.face import FaceReader
from talkverse_jax.evaluate.identity import identity
from talkverse_jax.evaluate.pictures import luma, sharpness
from talkverse_jax.evaluate.sound import FPS, RATE, Sync, loudness, sync
from talkverse_jax.media.audio import read_audio
from talkverse_jax.media.buckets import Fit
from talkverse_jax.media.fit import bring
from talkverse_jax.media.media import open_media
from talkverse_jax.media.screen import frames_and_pictures

FEWER = 3  # frames that the first clip of a video is shorter by
STILL = 0.15  # pixels of a picture of 128: a mouth that varies less stands still

_ENDS = 5.0  # seconds at the start and at the end that are compared
_SHOWN = 12  # frames of the strip
_LARGEST = 256  # pixels of the short side that are looked at


@dataclass(frozen=True, eq=False)
class Talk:
    """A video as it was read.

    Attributes:
      frames: scaled down to a short side of 256 pixels where it is more.
      scale: pixels of these a pixel of the file.
      seconds: of each frame, from the first.
      loud: of the sound at each frame.
      reference: the picture of who should be seen, of the frames' size.
      keyframes: the numbers of those that are coded without others.
    """

    name: str
    frames: UInt8[np.ndarray, "T H W 3"]
    scale: float
    seconds: Float[np.ndarray, " T"]
    loud: Float[np.ndarray, " T"]
    reference: UInt8[np.ndarray, "H W 3"]
    keyframes: tuple[int, ...]


@dataclass(frozen=True)
class Drift:
    """The last five seconds against the first five (halves, where a video has not ten).

    Attributes:
      colour: by which the mean red, green or blue moved at most, of 255.
      colour_percent: the same, of that mean before.
      sharpness: the variance of the Laplacian then, as a share of that before.
      identity_first, identity_last: similarity with the reference.
    """

    colour: float
    colour_percent: float
    sharpness: float
    identity_first: float
    identity_last: float

    @property
    def identity(self) -> float:
        return self.identity_last / max(self.identity_first, 1e-6)

    @property
    def identity_change(self) -> float:
        return self.identity_last - self.identity_first


@dataclass(frozen=True, eq=False)
class Measured:
    """All that is known of a video; the frames are let go, but for a few to show.

    Attributes:
      strip: evenly spaced frames.
      opening: of the mouth in each frame, in pixels.
      still: pixels that a mouth must vary by, or it stands still.
      parts: the stretches that sync and identity are told of: "all", and where the length of a clip is known
        "first" and "later" clips.
      identity: of each frame.
      colour: the mean red, green and blue of each frame.
      sharpness: of each frame.
      changes: from frame to frame.
      jumps: None where the length of a clip is not known or there is one clip only.
    """

    name: str
    strip: UInt8[np.ndarray, "12 H W 3"]
    loud: Float[np.ndarray, " T"]
    opening: Float[np.ndarray, " T"]
    still: float
    parts: dict[str, slice]
    identity: Float[np.ndarray, " T"]
    colour: Float[np.ndarray, "T 3"]
    sharpness: Float[np.ndarray, " T"]
    changes: FrameChanges
    jumps: Jumps | None

    def sync(self, part: str, loud: Float[np.ndarray, " n"] | None = None) -> Sync | None:
        """How the mouth goes with its own sound in that part, or with another (silence after its end)."""
        where, count = self.parts[part], len(self.loud)
        loud = self.loud if loud is None else np.pad(loud, (0, max(0, count - len(loud))))[:count]
        return sync(self.opening[where], loud[where], self.still)

    def drift(self) -> Drift:
        """Its end against its start."""
        count = min(round(_ENDS * FPS), len(self.opening) // 2)
        start, end = slice(count), slice(-count, None)
        colour = self.colour[start].mean(0)
        moved = np.abs(self.colour[end].mean(0) - colour)
        return Drift(
            colour=float(moved.max()),
            colour_percent=100 * float((moved / np.maximum(colour, 1)).max()),
            sharpness=float(self.sharpness[end].mean() / max(self.sharpness[start].mean(), 1e-6)),
            identity_first=float(self.identity[start].mean()),
            identity_last=float(self.identity[end].mean()),
        )


def read_talk(path: str | Path, reference: UInt8[np.ndarray, "h w 3"] | None = None, fit: Fit = "pad") -> Talk:
    """Read a video file with sound.

    Args:
      reference: who should be seen. The first frame where None.
      fit: how the reference is brought to the video's size: as it was when the video was made.

    Raises:
      UserError: the video cannot be read, is too short, or has no pictures or no sound.
    """
    with open_media(path, "a video") as container:
        if not container.streams.video:
            raise UserError(f"{path}: has no pictures; give a video")
        times, frames, keyframes, scale = [], [], [], 1.0
        for coded, picture in frames_and_pictures(container):
            if coded.key_frame:
                keyframes.append(len(frames))
            times.append(coded.time)
            scale = _scale(picture)
            frames.append(_smaller(picture, scale))
    if len(frames) < FPS:
        raise UserError(f"{path}: has {len(frames)} frames; give a video of a second or more")
    shown = np.stack(frames)
    who = shown[0] if reference is None else bring(reference, shown.shape[1:3], fit)
    sound = read_audio(path, RATE, since=times[0]).samples
    seconds = np.array(times) - times[0]
    return Talk(Path(path).stem, shown, scale, seconds, loudness(sound, seconds), who, tuple(keyframes))


def _scale(picture: UInt8[np.ndarray, "h w 3"]) -> float:
    return min(1.0, _LARGEST / min(picture.shape[:2]))


def _smaller(picture: UInt8[np.ndarray, "h w 3"], scale: float) -> UInt8[np.ndarray, "H W 3"]:
    if scale == 1:
        return picture
    height, width = picture.shape[:2]
    return np.asarray(
        Image.fromarray(picture).resize((round(width * scale), round(height * scale)), Image.Resampling.BOX)
    )


def starts_of(clip_frames: int, count: int, lead_in: int = 0) -> list[int]:
    """Where clips of that many frames begin in a video of `count`, but for the first, which shows `FEWER` less and its
    lead-in."""
    return [start for start in range(clip_frames - FEWER - lead_in, count, clip_frames) if start > 0]


def measure(talk: Talk, reader: FaceReader, starts: Sequence[int] | None = None) -> Measured:
    """Measure a video.

    Args:
      starts: the frames at which its clips begin, but for the first clip; None where that is not known.
    """
    frames, count = talk.frames, len(talk.frames)
    face = reader(frames)
    parts, borders = {"all": slice(None)}, [start for start in starts or () if 0 < start < count]
    changed = differences(frames)
    if starts is not None:
        first = borders[0] if borders else None
        parts |= {"first": slice(first), "later": slice(first, None)} if borders else {"first": slice(None)}
    return Measured(
        name=talk.name,
        strip=frames[np.linspace(0, count - 1, _SHOWN).astype(int)],
        loud=talk.loud,
        opening=face.opening,
        still=STILL * min(frames.shape[1:3]) / 128,
        parts=parts,
        identity=identity(frames, talk.reference, face),
        colour=frames.mean((1, 2)),
        sharpness=np.array([sharpness(luma(frame)) for frame in frames]),
        changes=FrameChanges.of(changed, borders, talk.keyframes),
        jumps=Jumps.of(changed, borders),
    )
