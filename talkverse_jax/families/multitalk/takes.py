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
from talkverse_jax.families.multitalk.config import MultiTalkConfig, Recipe
from talkverse_jax.families.multitalk.inputs import MultiTalkInputs
from talkverse_jax.families.multitalk.settings import Settings
from talkverse_jax.families.multitalk.timeline import Overlapping, heard, make_timeline, upstream_timeline
from talkverse_jax.families.multitalk.voices import HEARD
from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.pipeline.long_sound import sound_features
from talkverse_jax.pipeline.speech import SpeechEncoder

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


def make_takes(inputs: MultiTalkInputs, settings: Settings, recipe: Recipe, encoder: SpeechEncoder) -> list[Take]:
    """The takes of a job. A single one's sound is encoded now (or as it is needed, if it is long); that of several
    when each is made, and forgotten with it.

    Raises:
      UserError: a sound is too short, or a clip is all taken over from the one before.
    """
    parts, left = [], settings.max_frames or math.inf
    for part in [inputs.of_scene(scene) for scene in inputs.scenes] or [inputs]:
        timeline = _timeline(part, settings, recipe, encoder, left)
        parts.append((part, timeline))
        left -= timeline.frames
        if left < 1 or settings.mode == "clip":
            break

    def features(number: int) -> Sequence[Features]:
        return [sound_features(encoder, voice, settings.audio_window) for voice in parts[number][0].voices]

    if len(parts) == 1:
        now = features(0)
        [(part, timeline)] = parts
        return [Take(part, timeline, lambda: now)]
    one_at_a_time = functools.lru_cache(maxsize=1)(features)
    return [
        Take(part, timeline, functools.partial(one_at_a_time, number)) for number, (part, timeline) in enumerate(parts)
    ]


def _timeline(
    part: MultiTalkInputs, settings: Settings, recipe: Recipe, encoder: SpeechEncoder, most: float
) -> Overlapping:
    samples = part.voices[0].length  # all are of one length
    sizes: Any = dict(length=settings.frame_num, overlap=settings.motion_frames(recipe))
    sizes["one_clip"] = settings.mode == "clip"
    if settings.length == "upstream":
        most = UPSTREAM_FRAMES if settings.max_frames is None else int(most)
        return upstream_timeline(encoder.rows(samples), **sizes, most=most, recipe=recipe)
    frames = samples * FPS // HEARD  # floats, as the encoder's rows are counted, make 28 of 1.16 s
    return make_timeline(frames, **sizes, most=None if math.isinf(most) else int(most))


def _rows(features: Features, rows: Int[np.ndarray, "..."]) -> Float[np.ndarray, "... layers A"]:
    wanted, places = np.unique(rows, return_inverse=True)
    return features[wanted][places.reshape(rows.shape)]
