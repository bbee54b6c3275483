"""A video of any length, clip after clip: each clip sees the last 73 frames of what came before.

Shapes: n frames a clip, F latent frames, H W pixels, h w latent grid, C latent channels, T audio rows,
A audio width, K frames of history and M of their latents.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt

from talkverse_jax.core.compilation import model_jit
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.heap import give_back
from talkverse_jax.diffusion.denoise import denoise
from talkverse_jax.diffusion.flow import make_schedule, noise_level
from talkverse_jax.diffusion.solvers import adds_noise
from talkverse_jax.families.talkverse.alignment import first_row, frames_lost
from talkverse_jax.families.talkverse.guidance import branches, computed, guidance
from talkverse_jax.families.talkverse.model import ClipConditions, TalkVerse
from talkverse_jax.families.talkverse.settings import Settings
from talkverse_jax.models.tiny_decoder.model import TinyDecoder
from talkverse_jax.models.vae.config import VAEConfig
from talkverse_jax.models.vae.model import WanVAE
from talkverse_jax.pipeline.clip import Clip
from talkverse_jax.pipeline.decoders import DecoderName
from talkverse_jax.pipeline.events import Events, Together
from talkverse_jax.pipeline.residency import resident
from talkverse_jax.sharding.distributed import fetch
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.pictures import PICTURES, split_for

FIRST_FRAME_COPIES = 6  # copies of the picture that end the history of `init_first_frame`


@dataclasses.dataclass(frozen=True)
class Dubbing:
    """The video that is to say something else.

    Attributes:
      frames: its frames first .. first + count - 1 in [-1, 1], already of the video's size; of any numbers.
      reference: which frame of a clip's n is the reference, given the clip's number and n.
    """

    frames: Callable[[int, int], Float[np.ndarray, "count H W 3"]]
    reference: Callable[[int, int], int]


@dataclasses.dataclass(frozen=True)
class Subject:
    """What one video is made of.

    Attributes:
      image: the reference picture in [-1, 1], already of the video's size; of a dubbed video its first frame.
      audio: features of the sound at 25 rows a second, given the first row and their number; of any rows.
      num_clips: of the video.
      noise: the noise of a clip, given its number and shape.
      dubbing: None where the picture is all there is.
      key: of what a clip's steps draw, given its number; None where they draw nothing.
    """

    image: Float[np.ndarray, "H W 3"]
    text: Float[Array | np.ndarray, "1 text_len D"]
    negative_text: Float[Array | np.ndarray, "1 text_len D"]
    audio: Callable[[int, int], Float[np.ndarray, "n layers A"]]
    num_clips: int
    noise: Callable[[int, tuple[int, ...]], Float[Array, "1 F h w C"]]
    dubbing: Dubbing | None = None
    key: Callable[[int], UInt[np.ndarray, " words"]] | None = None


@dataclasses.dataclass(frozen=True)
class VideoState:
    """A video in the making: what the clips from number `clip` on must know of those before.

    Attributes:
      clip: the number of the next one.
      settings: how its clips are sampled.
      reference: latents of the picture.
      motion: latents of the history; None before a first clip that has none, and behind the last clip.
      history: the last frames that were made, zeros where there are fewer.
    """

    subject: Subject
    settings: Settings
    clip: int
    reference: Float[Array, "1 1 h w C"]
    motion: Float[Array, "1 M h w C"] | None
    history: Float[Array, "1 K H W 3"]

    @property
    def is_done(self) -> bool:
        """Whether there is no clip left to make."""
        return self.clip >= self.subject.num_clips


class ClipMaker:
    """Clip after clip by a transformer and a VAE.

    Args:
      offload: the transformer waits in host memory while the VAE works.
      decoder_of: the model that decodes, by its name; by default the VAE.
    """

    def __init__(
        self,
        dit: TalkVerse,
        vae: WanVAE,
        offload: bool = False,
        decoder_of: Callable[[DecoderName], WanVAE | TinyDecoder] | None = None,
    ):
        self.dit, self.vae, self._offload = dit, vae, offload
        self._decoder_of = decoder_of or (lambda _: vae)

    def start(self, subject: Subject, settings: Settings, events: Events) -> VideoState:
        """The state before the first clip.

        Raises:
          UserError: a clip of so many frames is no whole number of latent frames.
        """
        check_frames(settings, self.vae.config)
        copies = FIRST_FRAME_COPIES if settings.init_first_frame else 0
        with events.phase("encoding"):
            reference = self._reference(subject.image[None, None])
            last = np.repeat(subject.image[None, None], copies, axis=1)
            state = VideoState(subject, settings, 0, reference, None, self._history(reference, last))
            return self._looking_back(state) if copies else state

    def restore(
        self,
        subject: Subject,
        settings: Settings,
        clip: int,
        saved: Mapping[str, np.ndarray],
        events: Events,
    ) -> VideoState:
        """The state that `save` described, before clip number `clip`."""
        with events.phase("encoding"):
            reference = self._reference(subject.image[None, None])
            motion = self._split(reference).put(saved["motion"], *PICTURES)
            history = self._history(reference, saved["frames"])
            return VideoState(subject, settings, clip, reference, motion, history)

    def save(self, state: VideoState) -> dict[str, np.ndarray] | None:
        """What a later run needs to go on, in process 0; every process must ask. Of the history, only frames that
        the next clips still see."""
        seen = state.history if state.subject.dubbing else state.history[:, state.settings.infer_frames :]
        assert state.motion is not None, "behind the last clip there is nothing to go on with"
        motion, frames = fetch(state.motion), fetch(seen)
        return None if motion is None or frames is None else {"motion": motion, "frames": frames}

    def advance(
        self, states: list[VideoState | None], events: Sequence[Events | None]
    ) -> Iterator[tuple[int, Clip, VideoState]]:
        """One clip of each state: (its place in `states`, the clip, the state after it). All are of one size, and all
        dubbed or none. They are denoised as one batch, and encoded and decoded one after the other.

        What a state gets does not depend on the others, but on their number in the last digits; None takes the
        place of one that has ended. Once the steps are done `states` is emptied, so that no history is in memory
        twice.
        """
        together = Together(events)
        with together.phase("encoding"):
            begun = [None if state is None else self._begin(state) for state in states]
            first, _ = filler = next(pair for pair in begun if pair is not None)
            pack, samples = map(list, zip(*(pair or filler for pair in begun)))
            rows = self._put(np.stack([self._rows(state) for state in pack]))
            noisy: Any = _batch(samples)
            del begun, filler, samples
        settings, dubbed = first.settings, first.subject.dubbing is not None
        schedule = make_schedule(settings.sample_solver, settings.sample_steps, settings.sample_shift)
        if dubbed:
            schedule = schedule.below(settings.dubbing_noise_strength)
        with resident(self.dit, self._offload) as model, together.phase("denoising"):
            text, negative, reference, motion = (
                _batch(parts)
                for parts in zip(*((s.subject.text, s.subject.negative_text, s.reference, s.motion) for s in pack))
            )
            if motion is None and settings.empty_history:
                motion = np.zeros((len(pack), model.config.motion_latent_frames, *noisy.shape[2:]), np.float32)
            text, negative, reference, motion = jax.tree.map(self._put, (text, negative, reference, motion))
            conditions = prepare(model, text, negative, rows, reference, motion, guided=settings.guided)
            keys = self._keys(pack) if adds_noise(settings.sample_solver) else None
            del reference, motion
            batch = denoise(
                model,
                noisy,
                conditions,
                solver=settings.sample_solver,
                schedule=schedule,
                guidance=guidance(settings.guided),
                scales=settings.sample_guide_scale,
                keys=keys,
                computed=computed(settings, schedule.steps),
                on_step=together.stepped,
            )
            del conditions, noisy  # gigabytes that the VAE can use
        wanted = [place for place, state in enumerate(states) if state is not None]
        left = {place: pack[place] for place in wanted}
        del first, pack
        states.clear()
        for place in wanted:
            latents = batch if batch.shape[0] == 1 else batch[place : place + 1]
            clip, following = self._finish(left.pop(place), latents, events[place] or Events())
            yield place, clip, following
            del clip, following, latents  # while the next one is made, nothing of it is kept here
            give_back()  # or the heap grows by half a megabyte a clip

    def clips(
        self, subject: Subject, settings: Settings, events: Events | None = None, state: VideoState | None = None
    ) -> Iterator[Clip]:
        """All clips of one video, in order."""
        events = events or Events()
        state = state or self.start(subject, settings, events)
        while not state.is_done:
            [(_, clip, state)] = self.advance([state], [events])
            yield clip
            del clip

    def _put(self, x: Any) -> Array:
        return self.dit.layout.put(x)

    def _rows(self, state: VideoState) -> Float[np.ndarray, "n layers A"]:
        return state.subject.audio(self._first_row(state), state.settings.infer_frames)

    def _keys(self, pack: Sequence[VideoState]) -> Array:
        """Of what the steps draw, one for each video."""
        words = [state.subject.key(state.clip) for state in pack if state.subject.key is not None]
        return jax.random.wrap_key_data(self._put(np.stack(words)))

    def _first_row(self, state: VideoState) -> int:
        settings = state.settings
        lost = frames_lost(settings, self.vae.config.time_stride)
        return first_row(state.clip, settings.infer_frames, settings.audio_alignment, lost)

    def _begin(self, state: VideoState) -> tuple[VideoState, Float[Array, "1 F h w C"]]:
        """What the clip is denoised from: noise, or noise over the frames that it dubs, one of which is then the
        reference."""
        subject, count = state.subject, state.settings.infer_frames
        frames = self.dit.config.latent_frames(count)
        noise = subject.noise(state.clip, (1, frames, *state.reference.shape[2:]))
        if subject.dubbing is None:
            return state, noise
        dubbed = subject.dubbing.frames(self._first_row(state), count)[None].astype(np.float32)
        chosen = subject.dubbing.reference(state.clip, count)
        state = dataclasses.replace(state, reference=self._reference(dubbed[:, chosen : chosen + 1]))
        split = self._split(state.reference)
        strength = noise_level(state.settings.dubbing_noise_strength)
        shown, noise = split.put(dubbed, *PICTURES), split.put(np.asarray(noise), *PICTURES)
        return state, jax.block_until_ready(cover_with_noise(self.vae, state.history, shown, noise, strength))

    def _finish(self, state: VideoState, latents: Float[Array, "1 F h w C"], events: Events) -> tuple[Clip, VideoState]:
        """Decode a clip, take it into the history, and encode that for the next one."""
        with events.phase("decoding"):
            decoder = self._decoder_of(state.settings.decoder)
            latents = decoder.layout.put(latents)
            frames = decode(decoder, state.motion, latents, context=state.settings.decode_context)
            history = jax.block_until_ready(remember(state.history, frames))
            following = dataclasses.replace(state, clip=state.clip + 1, history=history, motion=None)
            if not following.is_done:  # is encoded while the frames come to the host
                following = dataclasses.replace(following, motion=self._motion(state, history, latents))
            shown = fetch(frames)
            del frames, history
        lead_in = 0 if state.clip else state.settings.lead_in_frames
        clip = Clip(state.clip, None if shown is None else shown[0, lead_in:], np.asarray(latents)[0])
        events.decoded(clip)
        with events.phase("encoding"):
            jax.block_until_ready(following.motion)
        return clip, following

    def _motion(
        self, state: VideoState, history: Float[Array, "1 K H W 3"], latents: Float[Array, "1 F h w C"]
    ) -> Float[Array, "1 M h w C"]:
        """The motion latents behind a clip: its own, or its frames encoded again."""
        if not state.settings.keep_latents:
            return encode(self.vae, history)
        before = encode(self.vae, history) if state.motion is None else state.motion
        return continued(before, self.vae.layout.put(latents), first=state.motion is None)

    def _looking_back(self, state: VideoState) -> VideoState:
        """The history encoded for the next clip."""
        return dataclasses.replace(state, motion=jax.block_until_ready(encode(self.vae, state.history)))

    def _reference(self, picture: Float[np.ndarray, "1 1 H W 3"]) -> Float[Array, "1 1 h w C"]:
        return jax.block_until_ready(encode(self.vae, self.vae.layout.put(picture)))

    def _split(self, reference: Float[Array, "1 1 h w C"]) -> Layout:
        """As the VAE's own frames are split, on the VAE's own mesh: `remember` joins both."""
        return split_for(self.vae.layout, 1, *reference.shape[2:4])

    def _history(
        self, reference: Float[Array, "1 1 h w C"], last: Float[np.ndarray, "1 k H W 3"]
    ) -> Float[Array, "1 K H W 3"]:
        """The history that ends with some frames."""
        frames = np.zeros((1, self.dit.config.motion_frames, *last.shape[2:]), np.float32)
        if last.shape[1]:
            frames[:, -last.shape[1] :] = last
        return self._split(reference).put(frames, *PICTURES)


def check_frames(settings: Settings, config: VAEConfig) -> None:
    """Make sure that a clip is a whole number of latent frames, and shows something.

    Raises:
      UserError: it is not or does not, or a lead-in does not go with another setting.
    """
    stride, frames, lead_in = config.time_stride, settings.infer_frames, settings.lead_in_frames
    if frames < stride or frames % stride:
        near = max(stride, round(frames / stride) * stride)
        raise UserError(
            f"{frames}: a latent frame holds {stride} frames; give a multiple of {stride}, such as {near}",
            field="infer_frames",
        )
    if lead_in > (most := frames - stride):
        raise UserError(f"{lead_in}: the first clip has no more frames; give at most {most}", field="lead_in_frames")
    if lead_in and settings.init_first_frame:
        raise UserError(f"{lead_in}: a video that begins with the picture has none", field="lead_in_frames")
    if lead_in and settings.audio_alignment == "upstream":
        raise UserError(f"{lead_in}: give --audio_alignment exact; the original's has none", field="lead_in_frames")


def _batch(parts: Sequence[Array | None]) -> Array | None:
    """All in one array; what a video that has ended lacks is filled up with another's."""
    present = [part for part in parts if part is not None]
    if len(parts) == 1 or not present:
        return parts[0]
    return jnp.concatenate([present[0] if part is None else part for part in parts])


def seeded_noise(seed: int) -> Callable[[int, tuple[int, ...]], Array]:
    """Clip r's noise is drawn from seed + r, so a clip's noise does not depend on the others."""
    return lambda clip, shape: jax.random.normal(jax.random.key((seed + clip) % 2**32), shape, jnp.float32)


def seeded_key(seed: int) -> Callable[[int], UInt[np.ndarray, " words"]]:
    """Of what the steps of clip r draw, likewise; apart from the noise that the clip is denoised from."""
    return lambda clip: np.asarray(jax.random.key_data(jax.random.fold_in(jax.random.key((seed + clip) % 2**32), 1)))


@partial(model_jit, static_argnames="guided")
def prepare(dit, text, negative_text, audio, reference, motion, guided: bool) -> ClipConditions:
    """The conditions of a clip, for both branches of guidance where it is on."""
    return dit.prepare(*branches(text, negative_text, audio, reference, motion, guided))


@jax.jit
def encode(vae: WanVAE, video: Float[Array, "1 T H W 3"]) -> Float[Array, "1 F h w C"]:
    return vae.encode(video)


@jax.jit
def cover_with_noise(
    vae: WanVAE,
    history: Float[Array, "1 M H W 3"],
    frames: Float[Array, "1 n H W 3"],
    noise: Float[Array, "1 F h w C"],
    strength: Float[Array, ""],
) -> Float[Array, "1 F h w C"]:
    """The latents of `frames` as they are behind the history, mixed with noise."""
    latents = vae.encode(jnp.concatenate([history, frames], axis=1))[:, -noise.shape[1] :]
    return (1 - strength) * latents + strength * noise


@jax.jit
def remember(history: Float[Array, "1 M H W 3"], frames: Float[Array, "1 n H W 3"]) -> Float[Array, "1 M H W 3"]:
    """The last M frames of what came before, with `frames` behind it."""
    return jnp.concatenate([history, frames], axis=1)[:, -history.shape[1] :]


@partial(jax.jit, static_argnames="first")
def continued(
    before: Float[Array, "1 M h w C"], latents: Float[Array, "1 F h w C"], first: bool
) -> Float[Array, "1 M h w C"]:
    """The last M latents of what came before, with a clip's behind it.

    Args:
      before: of the clip before, or, behind a `first` clip, of the history that ends with it.
    """
    room = before.shape[1]
    if not first:
        return jnp.concatenate([before, latents], axis=1)[:, -room:]
    kept = latents[:, 1:][:, -room:]  # the very first shows one frame, and none in a history does
    return jnp.concatenate([before[:, : room - kept.shape[1]], kept], axis=1)


@partial(jax.jit, static_argnames="context")
def decode(
    decoder: WanVAE | TinyDecoder,
    motion: Float[Array, "1 M h w C"] | None,
    latents: Float[Array, "1 F h w C"],
    context: int | None = None,
) -> Float[Array, "1 n H W 3"]:
    """Decode a clip behind its motion latents, whose own frames are dropped; clamp to [-1, 1].

    Args:
      context: only the last so many of the motion latents are decoded; None: all.
    """
    if motion is None:
        return jnp.clip(decoder.decode(latents), -1, 1)
    motion = motion[:, -min(context or motion.shape[1], motion.shape[1]) :]
    video = decoder.decode(jnp.concatenate([motion, latents], axis=1), discard=motion.shape[1])
    return jnp.clip(video, -1, 1)
