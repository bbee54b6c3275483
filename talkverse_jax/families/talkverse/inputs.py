"""The files that a video is made of, read and checked before any model is loaded."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.clips import Dubbing
from talkverse_jax.media.audio import SoundFile, open_sound
from talkverse_jax.media.buckets import choose, fit, to_unit
from talkverse_jax.media.image import is_video, read_image
from talkverse_jax.media.source_video import SourceVideo
from talkverse_jax.run.sample_options import SampleOptions


@dataclass(frozen=True)
class Inputs:
    """A picture, or a video to dub, and a sound.

    Attributes:
      picture: of the video's size; the first one of a video.
      video: None where a picture was given.
    """

    picture: UInt8[np.ndarray, "H W 3"]
    video: SourceVideo | None
    sound: SoundFile

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the video that is made."""
        return self.picture.shape[:2]

    def dubbing(self, seed: int) -> Dubbing | None:
        """The video to dub; a clip's reference is drawn by the seed from the frames that it dubs."""
        if self.video is None:
            return None
        return Dubbing(
            frames=lambda first, count: to_unit(self.video.read(first, count, self.size)),
            reference=lambda clip, count: int(np.random.default_rng([seed, clip]).integers(count)),
        )


def read_inputs(options: SampleOptions) -> Inputs:
    """Read what `--image` and `--audio` name; nothing of the sound and one picture is kept in memory.

    Raises:
      UserError: a file cannot be used, or no sound is given.
    """
    if is_video(options.image):
        video = SourceVideo(options.image, options.video_end)
        size = choose(options.size_bucket, video.height, video.width)
        own = options.audio is None
        if own and not video.has_sound:
            raise UserError(f"{options.image}: has no sound of its own; give the one to be spoken (--audio)")
        sound = open_sound(options.image, since=video.start) if own else open_sound(options.audio)
        return Inputs(video.read(0, 1, size)[0], video, sound)
    image = read_image(options.image)
    if options.audio is None:
        raise UserError("--audio: missing; give the sound to be spoken (only a video to dub brings its own)")
    size = choose(options.size_bucket, *image.shape[:2])
    return Inputs(fit(image, *size), None, open_sound(options.audio))
