"""The files that a video is made of, read and checked before any model is loaded."""

import dataclasses
from collections.abc import Hashable

import numpy as np
from jaxtyping import UInt8

from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.clips import Dubbing
from talkverse_jax.families.talkverse.settings import Files, Settings
from talkverse_jax.media.audio import SoundFile, open_sound
from talkverse_jax.media.buckets import choose
from talkverse_jax.media.fit import fit, to_unit
from talkverse_jax.media.image import is_video, read_image
from talkverse_jax.media.media import same_file
from talkverse_jax.media.source_video import SourceVideo
from talkverse_jax.pipeline.job import Job

# Settings that videos may have each its own and be denoised together all the same.
_OWN = {"prompt", "negative_prompt", "size_bucket", "num_clip", "video_end", "audio_window", "head_trim_frames"}


@dataclasses.dataclass(frozen=True)
class TalkVerseInputs:
    """A picture, or a video to dub, and a sound.

    Attributes:
      picture: of the video's size; the first one of a video.
      video: None where a picture was given.
      track: the sound.
      shape: what must be the same to be denoised together.
      notices: lines to show the user: what was done to the files.
    """

    picture: UInt8[np.ndarray, "H W 3"]
    video: SourceVideo | None
    track: SoundFile
    shape: Hashable
    notices: tuple[str, ...]

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
    files, settings = job.files, job.settings
    notes: list[str] = []
    picture, video, track = _read(files, settings, notes)
    shared = [f.name for f in dataclasses.fields(settings) if f.name not in _OWN and f.metadata["decides"]]
    shape = (picture.shape[:2], video is not None, tuple(getattr(settings, name) for name in shared))
    told = (f"{files.image}: {'; '.join(notes)}",) if notes else ()
    return TalkVerseInputs(picture, video, track, shape, (*told, *track.notices))


def _read(
    files: Files, settings: Settings, notes: list[str]
) -> tuple[UInt8[np.ndarray, "H W 3"], SourceVideo | None, SoundFile]:
    """What is changed or assumed in reading the picture or video goes to `notes`."""
    if is_video(files.image):
        video = SourceVideo(files.image, settings.video_end)
        notes.extend(video.notes)
        size = choose(settings.size_bucket, video.height, video.width)
        if files.audio is not None and not same_file(files.audio, files.image):
            track = open_sound(files.audio)
        elif video.has_sound:
            track = open_sound(files.image, since=video.start)
        else:
            raise UserError(f"{files.image}: has no sound of its own; give the one to be spoken (--audio)")
        return video.read(0, 1, size)[0], video, track
    image = read_image(files.image, notes.append)
    if files.audio is None:
        raise UserError("missing; give the sound to be spoken (only a video to dub brings its own)", field="audio")
    return fit(image, *choose(settings.size_bucket, *image.shape[:2])), None, open_sound(files.audio)
