"""A video clip after clip: each one's first frames are the last ones of the clip before, as latents that stay as they
are (MultiTalk: 25 frames, which are also what its condition shows; InfiniteTalk: 9, beside a picture of reference).

Shapes: n frames a clip, F latent frames, G those but the first, H W pixels, h w latent grid, C latent channels, Y known
channels, K frames kept, S speakers, Q speakers and the background, I tokens of a picture.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt

from talkverse_jax.core.compilation import model_jit
from talkverse_jax.core.heap import give_back
from talkverse_jax.diffusion.denoise import denoise
from talkverse_jax.diffusion.flow import Schedule
from talkverse_jax.diffusion.sparing import Computed, without_blocks
from talkverse_jax.families.multitalk.audio import AudioWindows
from talkverse_jax.families.multitalk.colour import correct
from talkverse_jax.families.multitalk.config import Recipe
from talkverse_jax.families.multitalk.guidance import guidance, scales, spared
from talkverse_jax.families.multitalk.model import MultiTalk, MultiTalkConditions
from talkverse_jax.families.multitalk.motion import Kept, Renoised
from talkverse_jax.families.multitalk.schedule import schedule_of
from talkverse_jax.families.multitalk.settings import Settings
from talkverse_jax.families.multitalk.teacache import make_skips
from talkverse_jax.models.clip.model import ClipVision
from talkverse_jax.models.tiny_decoder.model import TinyDecoder
from talkverse_jax.models.vae.model import WanVAE
from talkverse_jax.pipeline.clip import Clip
from talkverse_jax.pipeline.decoders import DecoderName
from talkverse_jax.pipeline.events import Events, Together
from talkverse_jax.pipeline.residency import resident
from talkverse_jax.sharding.distributed import fetch


class Noise(NamedTuple):
    """What is random about a clip.

    Attributes:
      start: that it is denoised from.
      key: of the noise over the frames that it has of the clip before.
      known: that noise itself, of the start and of each step, where it is given.
    """

    start: Float[Any, "F h w C"]
    key: UInt[np.ndarray, " words"]
    known: Float[np.ndarray, "draws F h w C"] | None = None


@dataclasses.dataclass(frozen=True)
class Cast:
    """What one video is made of.

    Attributes:
      picture: the first frame of a clip's scene, given the clip's number, in [-1, 1], already of the video's size;
        colours are brought back to it.
      text, negative_text: hidden states.
      sound: what a clip's latent frames hear, by its number.
      speakers: who is where in the picture; None where there is one speaker.
      clips: of the video.
      noise: of a clip, given its number and the shape of its latents.
      reference: InfiniteTalk's: the picture that a clip shows, given its number; None of MultiTalk, whose clips show
        the last frames of the clip before.
      begins: whether a clip begins a scene, and knows nothing of the clip before.
    """

    picture: Callable[[int], Float[np.ndarray, "H W 3"]]
    text: Float[np.ndarray, "1 text_len D"]
    negative_text: Float[np.ndarray, "1 text_len D"]
    sound: Callable[[int], AudioWindows]
    speakers: Float[np.ndarray, "Q h w"] | None
    clips: int
    noise: Callable[[int, tuple[int, ...]], Noise]
    reference: Callable[[int], Float[np.ndarray, "H W 3"]] | None = None
    begins: Callable[[int], bool] = lambda clip: clip == 0


@dataclasses.dataclass(frozen=True)
class MultiTalkState:
    """A video in the making.

    Attributes:
      clip: the number of the next one.
      settings: how its clips are sampled.
      seen: the last frames of the clip before; None before the first.
    """

    subject: Cast
    settings: Settings
    clip: int
    seen: Float[np.ndarray, "K H W 3"] | None

    @property
    def is_done(self) -> bool:
        """Whether there is no clip left to make."""
        return self.clip >= self.subject.clips


class _Begun(NamedTuple):
    """All that a clip is made of, for one video or for several."""

    text: Float[Any, "B text_len D"]
    negative_text: Float[Any, "B text_len D"]
    image: Float[Any, "B I E"]
    known: Float[Any, "B F h w Y"]
    sound: AudioWindows
    speakers: Float[Any, "B Q h w"] | None
    noise: Float[Any, "B F h w C"]
    held: Float[Any, "B F h w C"]
    mask: Float[Any, "B F 1 1 1"]
    key: UInt[Any, "B words"]
    known_noise: Float[Any, "B draws F h w C"] | None

    @property
    def conditions(self) -> tuple[Any, ...]:
        """What `prepare` takes."""
        return self.text, self.negative_text, self.image, self.known, self.sound, self.speakers


class MultiTalkClips:
    """Clip after clip by a transformer, a VAE and CLIP.

    Args:
      offload: the transformer waits in host memory while the others work.
      decoder_of: the model that decodes, by its name; by default the VAE.
    """

    def __init__(
        self,
        dit: MultiTalk,
        vae: WanVAE,
        clip: ClipVision,
        offload: bool = False,
        decoder_of: Callable[[DecoderName], WanVAE | TinyDecoder] | None = None,
    ):
        self.dit, self.vae, self.clip, self._offload = dit, vae, clip, offload
        self._decoder_of = decoder_of or (lambda _: vae)
        self.recipe: Recipe = dit.config.recipe

    def advance(
        self, states: Sequence[MultiTalkState | None], events: Sequence[Events | None]
    ) -> Iterator[tuple[int, Clip, MultiTalkState]]:
        """One clip of each state: (its place in `states`, the clip, the state after it). They are denoised as one
        batch, and encoded and decoded one after the other. None takes the place of a state that has ended."""
        together = Together(events)
        filler = next(state for state in states if state is not None)
        settings = filler.settings
        with together.phase("encoding"):
            begun = jax.tree.map(_joined, *[self._begin(state or filler) for state in states])
        with resident(self.dit, self._offload) as model, together.phase("denoising"):
            latents = self._denoised(model, begun, settings, together)
            del begun
        for place, state in enumerate(states):
            if state is not None:
                clip, following = self._finish(state, latents[place : place + 1], events[place] or Events())
                yield place, clip, following
                del clip, following
                give_back()  # or the heap grows by half a megabyte a clip

    def clips(self, subject: Cast, settings: Settings, events: Events | None = None) -> Iterator[Clip]:
        """All clips of one video, in order."""
        state = MultiTalkState(subject, settings, 0, None)
        while not state.is_done:
            [(_, clip, state)] = self.advance([state], [events or Events()])
            yield clip
            del clip

    def _denoised(
        self, model: MultiTalk, begun: _Begun, settings: Settings, together: Together
    ) -> Float[Array, "B F h w C"]:
        begun = jax.tree.map(model.layout.put, begun)
        schedule = schedule_of(settings)
        computed = self._computed(model, settings, schedule)
        known = (begun.held, begun.mask)
        return denoise(
            model,
            begun.noise,
            prepare(model, *begun.conditions, branches=settings.branches),
            solver=settings.sample_solver,
            schedule=schedule,
            guidance=guidance(settings.branches, settings.use_apg),
            scales=scales(settings),
            keys=jax.random.wrap_key_data(begun.key),
            hold=Kept(*known) if self.recipe == "infinitetalk" else Renoised(*known, begun.known_noise),
            computed=computed,
            on_step=together.stepped,
        )

    def _computed(self, model: MultiTalk, settings: Settings, schedule: Schedule) -> list[Computed]:
        if settings.use_teacache:
            modulation = np.asarray(modulations(model, schedule.timesteps))
            return without_blocks(make_skips(modulation, settings.teacache_thresh, settings.is_720))
        return spared(settings)

    def _begin(self, state: MultiTalkState) -> _Begun:
        """All that the state's clip is made of, with the video first."""
        subject, frames = state.subject, state.settings.frame_num
        first, seen = subject.begins(state.clip), state.seen
        if first or seen is None:
            seen = subject.picture(state.clip)[None]
        shown = seen if subject.reference is None else subject.reference(state.clip)[None]
        behind = np.zeros((frames - len(shown), *shown.shape[1:]), np.float32)
        latents = self._encoded(np.concatenate([shown, behind]))
        count, stride = self.vae.config.latent_frames(len(seen)), self.vae.config.time_stride
        held = latents
        if subject.reference is not None:
            held = self._encoded(shown if first else seen)
        elif first:
            count = 0
        rest = latents.shape[1] - count
        noise = subject.noise(state.clip, latents.shape[1:])
        return _Begun(
            text=subject.text,
            negative_text=subject.negative_text,
            image=np.asarray(self.clip(self.clip.layout.put(shown[-1:]))),
            known=np.concatenate([known_frames(latents.shape, len(shown), stride), latents], axis=-1),
            sound=jax.tree.map(lambda x: x[None], subject.sound(state.clip)),
            speakers=None if subject.speakers is None else subject.speakers[None],
            noise=np.asarray(noise.start)[None],
            held=np.pad(held[:, :count], ((0, 0), (0, rest), *[(0, 0)] * 3)),
            mask=(np.arange(latents.shape[1]) < count).astype(np.float32).reshape(1, -1, 1, 1, 1),
            key=noise.key[None],
            known_noise=None if noise.known is None else noise.known[None],
        )

    def _encoded(self, frames: Float[np.ndarray, "k H W 3"]) -> Float[np.ndarray, "1 f h w C"]:
        found = fetch(encode(self.vae, self.vae.layout.put(frames[None])), everywhere=True)
        assert found is not None, "every process has it"
        return found

    def _finish(
        self, state: MultiTalkState, latents: Float[Array, "1 F h w C"], events: Events
    ) -> tuple[Clip, MultiTalkState]:
        """Decode a clip and bring its colours back; its last frames are what the next one sees."""
        subject, settings = state.subject, state.settings
        with events.phase("decoding"):
            frames = decode(self._decoder_of(settings.decoder), latents)
            if settings.color_correction_strength:
                picture = self.vae.layout.put(subject.picture(state.clip))
                frames = corrected(frames, picture, np.float32(settings.color_correction_strength))
            shown = fetch(frames, everywhere=True)
            assert shown is not None, "every process has it"
        clip = Clip(state.clip, shown[0], np.asarray(latents)[0])
        kept = shown[0, -settings.motion_frames(self.recipe) :].copy()  # or the whole clip would stay in memory
        return clip, MultiTalkState(subject, settings, state.clip + 1, kept)


def known_frames(shape: tuple[int, ...], frames: int, stride: int) -> Float[np.ndarray, "1 F h w stride"]:
    """Which pixel frames are known, as channels of their latent frames; the first one stands for `stride`.

    Args:
      shape: of the latents, [1, F, h, w, C].
      frames: that are known.
    """
    places = np.arange(stride * shape[1]).reshape(1, -1, 1, 1, stride) - (stride - 1)
    return np.broadcast_to((places < frames).astype(np.float32), (*shape[:-1], stride))


def seeded_noise(seed: int) -> Callable[[int, tuple[int, ...]], Noise]:
    """Clip r's noise is drawn from the seed and r, so that it does not depend on the others."""

    def draw(clip: int, shape: tuple[int, ...]) -> Noise:
        start, steps = jax.random.split(jax.random.fold_in(jax.random.key(seed), clip))
        return Noise(jax.random.normal(start, shape, jnp.float32), np.asarray(jax.random.key_data(steps)))

    return draw


def _joined(*parts: Array | np.ndarray) -> Array | np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


@partial(model_jit, static_argnames="branches")
def prepare(
    model: MultiTalk,
    text: Float[Array, "B text_len D"],
    negative_text: Float[Array, "B text_len D"],
    image: Float[Array, "B I E"],
    known: Float[Array, "B F h w Y"],
    sound: AudioWindows,
    speakers: Float[Array, "B Q h w"] | None,
    *,
    branches: int,
) -> MultiTalkConditions:
    """The conditions of a clip for all branches of guidance: of everything, without the words, and without the sound
    too, which is silence of one speaker; or of everything and without the sound; or of everything."""
    texts = {1: [text], 2: [text, text], 3: [text, negative_text, negative_text]}[branches]
    hearing = max(1, branches - 1)
    repeated = lambda x: jnp.concatenate([x] * branches)  # noqa: E731
    silent = lambda x: [jnp.zeros_like(x)] * (branches - hearing)  # noqa: E731
    sounds = jax.tree.map(lambda x: jnp.concatenate([*[x] * hearing, *silent(x)]), sound)
    alone = jnp.arange(branches * len(text)) >= hearing * len(text)
    places = None if speakers is None else repeated(speakers)
    return model.prepare(jnp.concatenate(texts), repeated(image), repeated(known), sounds, places, alone)


@jax.jit
def modulations(model: MultiTalk, timesteps: Float[Array, " steps"]) -> Float[Array, "steps 6 D"]:
    """What the timesteps do to the blocks."""
    return model.time_embedding(timesteps)[1]


@jax.jit
def encode(vae: WanVAE, video: Float[Array, "1 k H W 3"]) -> Float[Array, "1 f h w C"]:
    return vae.encode(video)


@jax.jit
def decode(decoder: WanVAE | TinyDecoder, latents: Float[Array, "1 F h w C"]) -> Float[Array, "1 n H W 3"]:
    """The frames, in [-1, 1]."""
    return jnp.clip(decoder.decode(latents), -1, 1)


@jax.jit
def corrected(
    frames: Float[Array, "1 n H W 3"], picture: Float[Array, "H W 3"], strength: Float[Array, ""]
) -> Float[Array, "1 n H W 3"]:
    return correct(frames[0], picture, strength)[None]
