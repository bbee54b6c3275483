"""The files that a video is made of, read and checked before any model is loaded."""

import dataclasses
from collections.abc import Hashable
from functools import partial

import numpy as np
from jaxtyping import UInt8

from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.clips import Dubbing
from talkverse_jax.families.talkverse.settings import Files, Settings
from talkverse_jax.media.audio import SoundFile, open_sound
from talkverse_jax.media.buckets import frame_size
from talkverse_jax.media.fit import Framing, framing, to_unit
from talkverse_jax.media.image import is_video, read_framed
from talkverse_jax.media.media import same_file
from talkverse_jax.media.source_video import SourceVideo
from talkverse_jax.media.walls import Walls
from talkverse_jax.pipeline.job import Job

# Settings that videos may have each its own and be denoised together all the same.
_OWN = {"prompt", "negative_prompt", "size_bucket", "size", "fit", "num_clip", "seconds", "video_end", "audio_window"}
_OWN |= {"head_trim_frames"}


@dataclasses.dataclass(frozen=True)
class TalkVerseInputs:
    """A picture, or a video to dub, and a sound.

    Attributes:
      picture: of the video's size; the first one of a video.
      video: None where a picture was given.
      sound: None where it comes while the video is made.
      shape: what must be the same to be denoised together.
      notices: lines to show the user: what was done to the files.
    """

    picture: UInt8[np.ndarray, "H W 3"]
    video: SourceVideo | None
    sound: SoundFile | None
    shape: Hashable
    notices: tuple[str, ...]

    @property
    def track(self) -> SoundFile:
        """The sound."""
        assert self.sound is not None, "it comes while the video is made"
        return self.sound

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the video that is made."""
        height, width = self.picture.shape[:2]
        return height, width

    @property
    def seconds(self) -> float:
        """Of the video, but for what settings cut; to order jobs by."""
        return self.track.duration

    def dubbing(self, seed: int) -> Dubbing | None:
        """The video to dub; a clip's reference is drawn by the seed from the frames that it dubs."""
        if (video := self.video) is None:
            return None
        return Dubbing(
            frames=lambda first, count: to_unit(video.read(first, count, self.size)),
            reference=lambda clip, count: int(np.random.default_rng([seed, clip]).integers(count)),
        )


def read(job: Job) -> TalkVerseInputs:
    """Read what a job's files name; nothing of the sound and one picture is kept in memory.

    Raises:
      UserError: a file cannot be used, or no sound is given.
    """
    return _read(job, live=False)


def read_live(job: Job) -> TalkVerseInputs:
    """Read the picture of a video whose sound comes while it is made.

    Raises:
      UserError: it cannot be used, or is a video.
    """
    return _read(job, live=True)


def _read(job: Job, live: bool) -> TalkVerseInputs:
    files, settings, walls = job.files, job.settings, job.machine.walls
    notes: list[str] = []
    if is_video(files.image, walls):
        if live:
            raise UserError(f"{files.image}: a video cannot be dubbed live; give a picture", field="image")
        video = SourceVideo(files.image, settings.video_end, settings.fit, walls)
        notes.extend(video.notes)
        framed = _framing(settings, video.height, video.width)
        picture = video.read(0, 1, framed.frame)[0]
    else:
        video = None
        picture, framed = read_framed(files.image, partial(_framing, settings), notes.append, walls)
    sound = None if live else _track(files, video, walls)
    shared = [f.name for f in dataclasses.fields(settings) if f.name not in _OWN and f.metadata["decides"]]
    shape = (framed.frame, video is not None, tuple(getattr(settings, name) for name in shared))
    if not framed.is_whole:
        notes.append(f"{framed}{', --fit crop or exact leaves none' if framed.bars else ''}")
    told = (f"{files.image}: {'; '.join(notes)}",) if notes else ()
    return TalkVerseInputs(picture, video, sound, shape, (*told, *(sound.notices if sound else ())))


def _framing(settings: Settings, height: int, width: int) -> Framing:
    """How pictures of that size become those of the video."""
    size = frame_size(settings, height, width, settings.fit == "exact")
    return framing((height, width), size, settings.fit)


def _track(files: Files, video: SourceVideo | None, walls: Walls) -> SoundFile:
    if files.audio is not None and not (video and same_file(files.audio, files.image)):
        return open_sound(files.audio, walls=walls)
    if video is None:
        raise UserError("missing; give the sound to be spoken (only a video to dub brings its own)", field="audio")
    if not video.has_sound:
        raise UserError(f"{files.image}: has no sound of its own; give the one to be spoken (--audio)")
    return open_sound(files.image, video.start, walls)
