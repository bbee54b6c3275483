"""A video as takes: one, or one for each scene of a video that is followed; the clips of each, and what they hear.

Shapes: W and V frames of a window, G latent frames but the first, S speakers, A audio width.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from talkverse_jax.families.multitalk.audio import AudioWindows
from talkverse_jax.families.multitalk.components import COMPONENTS
from talkverse_jax.families.multitalk.config import MultiTalkConfig, Recipe
from talkverse_jax.families.multitalk.inputs import MultiTalkInputs, excerpt
from talkverse_jax.families.multitalk.settings import Settings, check_frames
from talkverse_jax.families.multitalk.timeline import Joined, Overlapping, heard, make_timeline, upstream_timeline
from talkverse_jax.families.multitalk.voices import HEARD
from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.pipeline.job import Job
from talkverse_jax.pipeline.long_sound import sound_features
from talkverse_jax.pipeline.speech import SpeechEncoder, speech_rows
from talkverse_jax.weights import store

UPSTREAM_FRAMES = 1000  # where the original ends a video, unless told otherwise

Features = Any  # of a sound: indexed by ascending rows


class Take(NamedTuple):
    """A stretch of video that is made without a look at what comes before it.

    Attributes:
      inputs: of it alone.
      timeline: its own.
      features: of each person's sound.
    """

    inputs: MultiTalkInputs
    timeline: Overlapping
    features: Callable[[], Sequence[Features]]

    def heard(self, clip: int, config: MultiTalkConfig) -> AudioWindows:
        """What a clip of it hears, [S, W or G V, layers, A]."""
        windows = [self._windows(features, clip, config) for features in self.features()]
        return AudioWindows(*map(np.stack, zip(*windows)))

    def _windows(self, features: Features, clip: int, config: MultiTalkConfig) -> AudioWindows:
        sizes = dict(window=config.audio_window, stride=config.time_stride)
        first, later = heard(self.timeline.starts[clip], self.timeline.length, len(features), **sizes)
        return AudioWindows(_rows(features, first), _rows(features, later))


def timeline_of(job: Job, inputs: MultiTalkInputs) -> Joined:
    """The clips of a job, scene by scene where it has several.

    Raises:
      UserError: a clip is all taken over from the one before, or no whole number of latent frames.
    """
    settings, config = job.settings, store.load_config(job.weights.weights, COMPONENTS["dit"])
    check_frames(settings, config)
    whole = inputs.track.voices[0]  # all are of one length
    lengths = [excerpt(whole, scene).length for scene in inputs.scenes] or [inputs.voices[0].length]
    parts, left = [], settings.max_frames or math.inf
    for length in lengths:
        parts.append(_timeline(length, settings, config.recipe, left))
        left -= parts[-1].frames
        if left < 1 or settings.mode == "clip":
            break
    return Joined.of(parts).ended(settings.seconds, settings.num_clip)


def _timeline(samples: int, settings: Settings, recipe: Recipe, most: float) -> Overlapping:
    """Of so many samples at 16 kHz."""
    sizes: Any = dict(length=settings.frame_num, overlap=settings.motion_frames(recipe))
    sizes["one_clip"] = settings.mode == "clip"
    if settings.length == "upstream":
        most = UPSTREAM_FRAMES if settings.max_frames is None else int(most)
        return upstream_timeline(speech_rows(samples), **sizes, most=most, recipe=recipe)
    frames = samples * FPS // HEARD  # floats, as the encoder's rows are counted, make 28 of 1.16 s
    return make_timeline(frames, **sizes, most=None if math.isinf(most) else int(most))


def make_takes(inputs: MultiTalkInputs, settings: Settings, encoder: SpeechEncoder, timeline: Joined) -> list[Take]:
    """The takes of a job. A single one's sound is encoded now (or as it is needed, if it is long); that of several
    when each is made, and forgotten with it.

    Raises:
      UserError: a sound is too short.
    """

    def features(part: MultiTalkInputs) -> Sequence[Features]:
        return [sound_features(encoder, voice, settings.audio_window) for voice in part.voices]

    if len(timeline.parts) == 1:
        [part] = [inputs.of_scene(scene) for scene in inputs.scenes[:1]] or [inputs]
        now = features(part)
        return [Take(part, timeline.parts[0], lambda: now)]
    parts = [inputs.of_scene(scene) for scene, _ in zip(inputs.scenes, timeline.parts)]
    one_at_a_time = functools.lru_cache(maxsize=1)(lambda number: features(parts[number]))
    return [
        Take(part, own, functools.partial(one_at_a_time, number))
        for number, (part, own) in enumerate(zip(parts, timeline.parts, strict=True))
    ]


def _rows(features: Features, rows: Int[np.ndarray, "..."]) -> Float[np.ndarray, "... layers A"]:
    wanted, places = np.unique(rows, return_inverse=True)
    return features[wanted][places.reshape(rows.shape)]
