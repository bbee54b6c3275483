"""The clips of a video and the frames that it shows, from the length of its sound: no model is loaded."""

import math

from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.alignment import clips_needed, frames_lost
from talkverse_jax.families.talkverse.clips import check_frames
from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.families.talkverse.inputs import TalkVerseInputs
from talkverse_jax.families.talkverse.settings import Settings
from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.pipeline.clip import Timeline
from talkverse_jax.pipeline.encoders import SAMPLE_RATE
from talkverse_jax.pipeline.endless import Endless
from talkverse_jax.pipeline.job import Job
from talkverse_jax.weights import store


def timeline_of(job: Job, inputs: TalkVerseInputs) -> Timeline:
    """The clips of a job.

    Raises:
      UserError: a clip is no whole number of latent frames, or nothing would be shown.
    """
    settings, weights = job.settings, job.weights.weights
    vae, audio = (store.load_config(weights, COMPONENTS[name]) for name in ("vae", "audio"))
    check_frames(settings, vae)
    rows, lost = audio.rows(inputs.track.samples_at(SAMPLE_RATE)), frames_lost(settings, vae.time_stride)
    whole = make_timeline(settings, inputs.track.duration, rows, lost)
    timeline = whole.ended(settings.seconds, settings.num_clip)
    if timeline.shown < 1:
        raise UserError(
            f"{settings.head_trim_frames}: the video has {timeline.frames} frames; trim fewer", field="head_trim_frames"
        )
    return timeline


def make_timeline(settings: Settings, seconds: float, rows: int, lost: int) -> Timeline:
    """The clips of a whole sound.

    Args:
      seconds: its length.
      rows: that the audio encoder makes of it.
      lost: see `frames_lost`.
    """
    wanted, length = frames_in_sound(seconds), settings.infer_frames
    heard = wanted if settings.audio_alignment == "exact" else rows
    clips = clips_needed(heard, length, settings.audio_alignment, lost)
    starts = tuple(max(0, clip * length - lost) for clip in range(clips))
    return Timeline(clips, starts, min(wanted, clips * length - lost), settings.head_trim_frames)


def live_timeline(job: Job) -> Endless:
    """The clips of a video whose sound has no end.

    Raises:
      UserError: a clip is no whole number of latent frames, or a setting is of a whole video.
    """
    settings, vae = job.settings, store.load_config(job.weights.weights, COMPONENTS["vae"])
    check_frames(settings, vae)
    for name in ("head_trim_frames", "num_clip", "seconds"):
        if value := getattr(settings, name):
            raise UserError(f"{value}: a live video ends with its sound; leave it out", field=name)
    lost = frames_lost(settings, vae.time_stride)
    ahead = lost if settings.audio_alignment == "upstream" else 0
    return Endless.of(settings.infer_frames - lost, settings.infer_frames, heard_ahead=ahead)


def frames_in_sound(seconds: float) -> int:
    """Video frames that cover the sound: the last one may be only partly heard."""
    return max(1, math.ceil(seconds * FPS - 1e-6))
