"""Overlapping clips: each holds the latents of the last frames before it, and sees how the clip before ended.

Shapes: n frames a clip, F latent frames, h w latent grid, C latent channels, H W pixels.
"""

import dataclasses
import math
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from talkverse_jax.core.compilation import model_jit
from talkverse_jax.core.errors import UserError
from talkverse_jax.diffusion.denoise import denoise
from talkverse_jax.diffusion.flow import make_schedule
from talkverse_jax.diffusion.guidance import Guidance
from talkverse_jax.media.audio import SoundFile, open_sound, resampled
from talkverse_jax.media.buckets import choose
from talkverse_jax.media.fit import cover, to_unit
from talkverse_jax.media.image import read_image
from talkverse_jax.models.vae.model import WanVAE
from talkverse_jax.pipeline.clip import FPS, Clip, Timeline
from talkverse_jax.pipeline.encoders import AudioEncoder, TextEncoder, load_tokenizer
from talkverse_jax.pipeline.events import Events, Together
from talkverse_jax.pipeline.job import Job
from talkverse_jax.pipeline.long_sound import sound_features
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.pipeline.models import Models
from talkverse_jax.pipeline.pipeline import Pipeline, Saved
from talkverse_jax.sharding.distributed import fetch
from talkverse_jax.weights import store
from tests.second.components import COMPONENTS, Configs, dtypes
from tests.second.model import Eye, Holding, Net
from tests.second.settings import BUCKET, Settings


def _combine(velocities: Sequence[Array], scales: tuple[Array, Array], state: Any) -> tuple[Array, Any]:
    full, wordless, silent = velocities
    return silent + scales[0] * (full - wordless) + scales[1] * (wordless - silent), state


GUIDANCE = Guidance(3, _combine)


@dataclasses.dataclass(frozen=True)
class Mixed:
    """Two sounds at once, as the video plays them."""

    sounds: tuple[SoundFile, ...]

    @property
    def rate(self) -> int:
        return max(sound.rate for sound in self.sounds)

    def native(self) -> Iterator[Float[np.ndarray, "n 1"]]:
        parts = [
            np.concatenate(list(resampled((x.mean(axis=1) for x in sound.native()), sound.rate, self.rate)))
            for sound in self.sounds
        ]
        mixed = np.zeros(max(map(len, parts)), np.float32)
        for part in parts:
            mixed[: len(part)] += part
        yield mixed[:, None]


@dataclasses.dataclass(frozen=True)
class Inputs:
    picture: Float[np.ndarray, "H W 3"]
    track: Mixed
    size: tuple[int, int]
    shape: Hashable

    @property
    def seconds(self) -> float:
        return max(sound.duration for sound in self.track.sounds)

    @property
    def notices(self) -> tuple[str, ...]:
        return tuple(notice for sound in self.track.sounds for notice in sound.notices)


def read(job: Job) -> Inputs:
    settings, walls = job.settings, job.machine.walls
    image = read_image(job.files.portrait, walls=walls)
    size = choose(BUCKET, *image.shape[:2])
    shape = (size, dataclasses.replace(settings, scene="", base_seed=0))
    return Inputs(
        to_unit(cover(image, size)),
        Mixed(tuple(open_sound(file, walls=walls) for file in job.files.sounds)),
        size,
        shape,
    )


@dataclasses.dataclass(frozen=True)
class Overlapping(Timeline):
    """A clip shows what those before it have not shown; the last one is moved so that it ends with the sound.

    Attributes:
      length: of a clip.
    """

    length: int = 0

    def shown_of(self, clip: int) -> slice:
        before = self.starts[clip - 1] + self.length if clip else 0
        return slice(before - self.starts[clip], min(self.length, self.frames - self.starts[clip]))


def timeline_of(job: Job, inputs: Inputs) -> Overlapping:
    return make_timeline(job.settings, inputs.seconds)


def make_timeline(settings: Settings, seconds: float) -> Overlapping:
    frames, length = math.ceil(seconds * FPS - 1e-6), settings.clip_frames
    more = math.ceil(max(0, frames - length) / (length - settings.overlap))
    starts = [number * (length - settings.overlap) for number in range(more)] + [max(0, frames - length)]
    return Overlapping(len(starts), tuple(starts), frames, length=length)


@dataclasses.dataclass(frozen=True)
class Encoded:
    job: Job
    inputs: Inputs
    text: Float[np.ndarray, "2 T D"]
    sounds: tuple[Any, ...]
    timeline: Overlapping
    notices: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class State:
    """`seen`: the clip before, or the picture."""

    encoded: Encoded
    clip: int
    seen: Float[np.ndarray, "n H W 3"]


class SecondPipeline(Pipeline):
    family = "second"

    def __init__(
        self, weights: Weights, machine: Machine, *, settings=None, pack=1, keep_encoders=False, mesh: Any = "asked"
    ):
        self.weights, self.machine, self.pack = weights, machine, pack
        self.configs = Configs(**{name: store.load_config(weights.weights, each) for name, each in COMPONENTS.items()})
        trunk = self.configs.net.trunk
        sizes = dict(heads=trunk.num_heads, head_dim=trunk.head_dim, rows=GUIDANCE.branches * pack)
        how: dict[str, Any] = dict(dtypes=dtypes(machine), denoiser="net", text="words", mesh=mesh, **sizes)
        self.models = Models(COMPONENTS, weights, machine, **how)

    def encode(self, job: Job, events: Events, inputs: Inputs | None = None) -> Encoded:
        check_frames(self.configs, job.settings)
        inputs = inputs or read(job)
        tokenizer = load_tokenizer(store.folder_of(self.weights.weights, "words") / "tokenizer")
        with self.models.precision, events.phase("encoding"):
            words = TextEncoder(self.models["words"], tokenizer)
            text = np.asarray(words.encode([job.settings.scene, ""], self.configs.net.trunk.text_len).states)
            ears = AudioEncoder(self.models["ears"])
            sounds = tuple(sound_features(ears, sound, 0) for sound in inputs.track.sounds)
        return Encoded(job, inputs, text, sounds, timeline_of(job, inputs))

    def timeline(self, encoded: Encoded) -> Overlapping:
        return encoded.timeline

    def start(self, encoded: Encoded, events: Events) -> State:
        return State(encoded, 0, encoded.inputs.picture[None])

    def save(self, state: State) -> Saved | None:
        return {"seen": state.seen}

    def restore(self, encoded: Encoded, clip: int, saved: Saved, events: Events) -> State:
        return State(encoded, clip, saved["seen"])

    def advance(
        self, states: Sequence[State | None], events: Sequence[Events | None]
    ) -> Iterator[tuple[int, Clip, State]]:
        net, pixels, together = self.models["net"], self.models["pixels"], Together(events)
        filler = next(state for state in states if state is not None)
        settings: Settings = filler.encoded.job.settings
        with self.models.precision:
            with together.phase("encoding"):
                parts = [self._begin(state or filler) for state in states]
                text, sounds, look, held, mask, noise, keys = map(np.concatenate, zip(*parts))
                hold = Holding(net.layout.put(held), net.layout.put(mask))
            with together.phase("denoising"):
                schedule = make_schedule(settings.solver, settings.steps, 1.0)
                latents = denoise(
                    net,
                    noise,
                    prepare(net, text[0::2], text[1::2], sounds, look, hold.latents),
                    solver=settings.solver,
                    schedule=schedule,
                    guidance=GUIDANCE,
                    scales=(settings.text_scale, settings.sound_scale),
                    keys=jax.random.wrap_key_data(keys),
                    hold=hold,
                    computed=[("all", "ends")[step % 2] for step in range(schedule.steps)] if settings.skip else None,
                    on_step=together.stepped,
                )
        for place, state in enumerate(states):
            if state is None:
                continue
            own = events[place] or Events()
            with self.models.precision, own.phase("decoding"):
                frames = fetch(decode(pixels, latents[place : place + 1]), everywhere=True)[0]
            clip = Clip(state.clip, frames, np.asarray(latents[place]))
            yield place, clip, State(state.encoded, state.clip + 1, frames)

    def _begin(self, state: State) -> tuple[np.ndarray, ...]:
        """All that a clip is made of, as arrays with the video first (of the text: both)."""
        encoded, clip, vae = state.encoded, state.clip, self.configs.pixels
        settings, starts = encoded.job.settings, encoded.timeline.starts
        first = starts[clip] - starts[clip - 1] if clip else 0
        pixels, eye = self.models["pixels"], self.models["eye"]
        known = np.asarray(encode(pixels, pixels.layout.put(state.seen[None, first : first + settings.overlap])))
        look = np.asarray(see(eye, eye.layout.put(state.seen[-1:])))
        frames = vae.latent_frames(settings.clip_frames)
        held = np.pad(known, ((0, 0), (0, frames - known.shape[1]), *[(0, 0)] * 3))
        mask = (np.arange(frames) < known.shape[1]).astype(np.float32).reshape(1, -1, 1, 1, 1)
        sounds = np.stack([heard(rows, starts[clip], frames, vae.time_stride) for rows in encoded.sounds], axis=1)
        draw, steps = jax.random.split(jax.random.fold_in(jax.random.key(encoded.job.seed), clip))
        noise = np.asarray(jax.random.normal(draw, held.shape))
        return encoded.text, sounds[None], look, held, mask, noise, np.asarray(jax.random.key_data(steps))[None]


def check_frames(configs: Configs, settings: Settings) -> None:
    """Raises UserError unless clips and overlaps are whole latent frames."""
    for name in ("clip_frames", "overlap"):
        if (getattr(settings, name) - 1) % (stride := configs.pixels.time_stride):
            raise UserError(f"{getattr(settings, name)}: give 1 more than a multiple of {stride}", field=name)


def heard(rows: Float[np.ndarray, "T layers A"], start: int, frames: int, stride: int) -> Float[np.ndarray, "F A"]:
    """The mean of the last layer over the frames of each latent frame; zeros behind the sound."""
    rows = np.pad(rows[start : start + stride * (frames - 1) + 1, -1], ((0, stride * frames), (0, 0)))
    later = rows[1 : 1 + stride * (frames - 1)].reshape(frames - 1, stride, -1).mean(axis=1)
    return np.concatenate([rows[:1], later])


@model_jit
def prepare(net: Net, text, no_text, sounds, look, known):
    """The conditions of a clip: of everything, without words, without words and sounds."""
    thrice = lambda x: jnp.concatenate([x] * 3)  # noqa: E731
    sounds = jnp.concatenate([sounds, sounds, jnp.zeros_like(sounds)])
    return net.prepare(jnp.concatenate([text, no_text, no_text]), sounds, thrice(look), thrice(known))


@jax.jit
def encode(vae: WanVAE, video: Float[Array, "1 k H W 3"]) -> Float[Array, "1 f h w C"]:
    return vae.encode(video)


@jax.jit
def decode(vae: WanVAE, latents: Float[Array, "1 F h w C"]) -> Float[Array, "1 n H W 3"]:
    return jnp.clip(vae.decode(latents), -1, 1)


@jax.jit
def see(eye: Eye, picture: Float[Array, "1 H W 3"]) -> Float[Array, "1 tokens E"]:
    return eye(picture)
