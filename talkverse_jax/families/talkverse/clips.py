"""A video of any length, clip after clip: each clip sees the last 73 frames of what came before.

Shapes: n frames a clip, F latent frames, H W pixels, h w latent grid, C latent channels, T audio rows,
A audio width.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from talkverse_jax.core.compilation import model_jit
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.heap import give_back
from talkverse_jax.core.stopwatch import Stopwatch
from talkverse_jax.diffusion.denoise import denoise
from talkverse_jax.diffusion.flow import SolverName, make_schedule, noise_level
from talkverse_jax.diffusion.guidance import guidance_batch
from talkverse_jax.families.talkverse.alignment import AudioAlignment, first_row
from talkverse_jax.families.talkverse.model import ClipConditions, TalkVerse
from talkverse_jax.models.vae.layers import PICTURES
from talkverse_jax.models.vae.model import WanVAE22
from talkverse_jax.pipeline.residency import resident
from talkverse_jax.sharding.distributed import fetch
from talkverse_jax.sharding.pictures import split_for

FIRST_FRAME_COPIES = 6  # copies of the picture that end the history of `init_first_frame`


@dataclasses.dataclass(frozen=True)
class ClipSettings:
    """How clips are sampled.

    Attributes:
      infer_frames: frames a clip, a multiple of 4.
      sample_steps, sample_shift, sample_solver: the noise schedule and its solver.
      sample_guide_scale: classifier-free guidance; at 1 or less the conditional branch runs alone.
      init_first_frame: start from the picture: it ends the history of the first clip.
      audio_alignment: see `alignment`.
      dubbing_noise_strength: of a video that is dubbed, the noise that its own frames are put under, from 0 to 1;
        the schedule is walked from that level on.
      offload_model: keep the transformer in host memory while the VAE works.
    """

    infer_frames: int
    sample_steps: int
    sample_shift: float
    sample_guide_scale: float
    sample_solver: SolverName
    init_first_frame: bool
    audio_alignment: AudioAlignment
    dubbing_noise_strength: float = 0.95
    offload_model: bool = False

    def __post_init__(self):
        if self.infer_frames < 4 or self.infer_frames % 4:
            near = max(4, round(self.infer_frames / 4) * 4)
            raise UserError(
                f"--infer_frames {self.infer_frames}: a latent frame holds 4 frames; give a multiple of 4, "
                f"such as {near}"
            )
        if self.sample_steps < 1:
            raise UserError(f"--sample_steps {self.sample_steps}: give at least 1")
        if not 0 < self.sample_shift < math.inf:
            raise UserError(f"--sample_shift {self.sample_shift}: give a number above 0")
        if not math.isfinite(self.sample_guide_scale):
            raise UserError(f"--sample_guide_scale {self.sample_guide_scale}: give a number, such as 4.5")
        if not 0.001 <= self.dubbing_noise_strength <= 1:
            raise UserError(f"--dubbing_noise_strength {self.dubbing_noise_strength}: give a number from 0.001 to 1")

    @property
    def guided(self) -> bool:
        """Whether the unconditional branch runs too."""
        return self.sample_guide_scale > 1


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
    """

    image: Float[np.ndarray, "H W 3"]
    text: Float[Array, "1 text_len D"]
    negative_text: Float[Array, "1 text_len D"]
    audio: Callable[[int, int], Float[np.ndarray, "n layers A"]]
    num_clips: int
    noise: Callable[[int, tuple[int, ...]], Float[Array, "1 F h w C"]]
    dubbing: Dubbing | None = None


@dataclasses.dataclass(frozen=True)
class Past:
    """What the clips from number `clip` on must know of those before.

    Attributes:
      motion: latents of the last 73 frames.
      frames: those of the last 73 frames that are needed besides: 73 - n, or all to dub.
    """

    clip: int
    motion: Float[np.ndarray, "1 M h w C"]
    frames: Float[np.ndarray, "1 K H W 3"]


@dataclasses.dataclass(frozen=True)
class Clip:
    """One finished clip: frames [n, H, W, 3] in [-1, 1] and the latents [F, h, w, C] they were decoded from.

    Of several processes only process 0 has the frames and the past; the others have None.

    Attributes:
      index: of the clip in its video.
      past: for the next clip; None behind the last one, and where none is asked for.
      video: of which subject.
    """

    index: int
    frames: Float[np.ndarray, "n H W 3"] | None
    latents: Float[np.ndarray, "F h w C"]
    past: Past | None = None
    video: int = 0


def generate_clips(
    dit: TalkVerse,
    vae: WanVAE22,
    subjects: Sequence[Subject],
    *,
    settings: ClipSettings,
    stopwatch: Stopwatch,
    on_step: Callable[[], None] = lambda: None,
    keep_past: bool = False,
    past: Past | None = None,
) -> Iterator[Clip]:
    """Yield the clips in order: clip 0 of every subject, then clip 1 ... Between clips only the last 73 frames are
    kept.

    The clips of several subjects, of one size and all dubbed or none, are denoised as one batch, and encoded and
    decoded one after the other. What a subject gets does not depend on the others, but on their number in the last
    digits.

    Args:
      keep_past: clips come with what the next one must know, so that a later run can go on from there.
      past: of an earlier run, to go on from there; with one subject.
    """
    target = dit.config.latent_frames(settings.infer_frames)
    schedule = make_schedule(settings.sample_solver, settings.sample_steps, settings.sample_shift)
    if subjects[0].dubbing:
        schedule = schedule.below(settings.dubbing_noise_strength)
    put = dit.layout.put
    text, negative_text = (
        put(_batch([getattr(subject, name) for subject in subjects])) for name in ("text", "negative_text")
    )
    with stopwatch.phase("encoding"):
        videos = [_Video(vae, subject, settings, dit.config.motion_frames, past) for subject in subjects]
    for index in range(past.clip if past else 0, max(subject.num_clips for subject in subjects)):
        start = first_row(index, settings.infer_frames, settings.audio_alignment, history=settings.init_first_frame)
        with stopwatch.phase("encoding"):
            rows = put(np.stack([subject.audio(start, settings.infer_frames) for subject in subjects]))
            samples = _batch([video.begin(index, start, target) for video in videos])
        with resident(dit, settings.offload_model) as model, stopwatch.phase("denoising"):
            reference, motion = (_batch([getattr(video, name) for video in videos]) for name in ("reference", "motion"))
            conditions = prepare(model, text, negative_text, rows, reference, motion, settings.guided)
            del reference, motion
            batch = denoise(
                model,
                samples,
                conditions,
                solver=settings.sample_solver,
                schedule=schedule,
                guide_scale=settings.sample_guide_scale,
                on_step=on_step,
            )
            del conditions, samples  # gigabytes that the VAE can use
        for number, video in enumerate(videos):
            if index >= video.subject.num_clips:
                continue
            latents = batch if len(videos) == 1 else batch[number : number + 1]
            with stopwatch.phase("decoding"):
                shown = video.finish(latents)
            more, kept = index + 1 < video.subject.num_clips, None
            if more:
                with stopwatch.phase("encoding"):
                    video.look_back()
                    kept = video.past(index + 1) if keep_past else None
            yield Clip(index, shown, np.asarray(latents)[0], kept, number)
            del shown, latents, kept  # while the next clip is made, only the history of this one is kept
            give_back()  # or the heap grows by half a megabyte a clip
        del batch


class _Video:
    """One video in the making.

    Attributes:
      reference, motion: latents that the transformer sees; no motion before the first clip.
    """

    def __init__(self, vae: WanVAE22, subject: Subject, settings: ClipSettings, motion_frames: int, past: Past | None):
        self.subject, self._vae, self._settings = subject, vae, settings
        self.reference = jax.block_until_ready(encode(vae, vae.layout.put(subject.image[None, None])))
        # Split as the VAE's own frames are, on the VAE's own mesh: `remember` joins both.
        self._split = split_for(vae.layout, 1, *self.reference.shape[2:4])
        frames = np.zeros((1, motion_frames, *subject.image.shape), np.float32)
        if past is not None:
            if past.frames.shape[1]:
                frames[:, -past.frames.shape[1] :] = past.frames
            self.motion = self._split.put(past.motion, *PICTURES)
        elif settings.init_first_frame:
            frames[:, -FIRST_FRAME_COPIES:] = subject.image
        self._history = self._split.put(frames, *PICTURES)
        if past is None:
            self.motion = None
            if settings.init_first_frame:
                self.look_back()

    def begin(self, index: int, start: int, latent_frames: int) -> Float[Array, "1 F h w C"]:
        """What clip `index` is denoised from: noise, or noise over the frames that it dubs."""
        noise = self.subject.noise(index, (1, latent_frames, *self.reference.shape[2:]))
        dubbing, count = self.subject.dubbing, self._settings.infer_frames
        if dubbing is None or index >= self.subject.num_clips:
            return noise
        frames = dubbing.frames(start, count)[None].astype(np.float32)
        chosen = dubbing.reference(index, count)
        self.reference = jax.block_until_ready(encode(self._vae, self._vae.layout.put(frames[:, chosen : chosen + 1])))
        strength = noise_level(self._settings.dubbing_noise_strength)
        shown = self._split.put(frames, *PICTURES)
        noise = self._split.put(np.asarray(noise), *PICTURES)
        return jax.block_until_ready(cover_with_noise(self._vae, self._history, shown, noise, strength))

    def finish(self, latents: Float[Array, "1 F h w C"]) -> Float[np.ndarray, "n H W 3"] | None:
        """Decode a clip and take it into the history; its frames, in the process that has them."""
        frames = decode(self._vae, self.motion, latents)
        self._history = jax.block_until_ready(remember(self._history, frames))
        shown = fetch(frames)
        return None if shown is None else shown[0]

    def look_back(self) -> None:
        """Encode the history for the next clip."""
        self.motion = None  # gives its memory back
        self.motion = jax.block_until_ready(encode(self._vae, self._history))

    def past(self, clip: int) -> Past | None:
        """What a later run needs to go on at that clip; every process must ask."""
        needed = self._history if self.subject.dubbing else self._history[:, self._settings.infer_frames :]
        motion, frames = fetch(self.motion), fetch(needed)
        return None if motion is None else Past(clip, motion, frames)


def _batch(parts: Sequence[Array | None]) -> Array | None:
    """All in one array; what a video that has ended lacks is filled up with another's."""
    present = [part for part in parts if part is not None]
    if len(parts) == 1 or not present:
        return parts[0]
    return jnp.concatenate([present[0] if part is None else part for part in parts])


def seeded_noise(seed: int) -> Callable[[int, tuple[int, ...]], Array]:
    """Clip r's noise is drawn from seed + r, so a clip's noise does not depend on the others."""
    return lambda clip, shape: jax.random.normal(jax.random.key((seed + clip) % 2**32), shape, jnp.float32)


@partial(model_jit, static_argnames="guided")
def prepare(dit, text, negative_text, audio, reference, motion, guided: bool) -> ClipConditions:
    """The conditions of a clip, for both branches of guidance where it is on."""
    return dit.prepare(*guidance_batch(text, negative_text, audio, reference, motion, guided))


@jax.jit
def encode(vae: WanVAE22, video: Float[Array, "1 T H W 3"]) -> Float[Array, "1 F h w C"]:
    return vae.encode(video)


@jax.jit
def cover_with_noise(
    vae: WanVAE22,
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


@jax.jit
def decode(
    vae: WanVAE22, motion: Float[Array, "1 M h w C"] | None, latents: Float[Array, "1 F h w C"]
) -> Float[Array, "1 n H W 3"]:
    """Decode a clip behind its motion latents, whose own frames are dropped; clamp to [-1, 1]."""
    if motion is None:
        return jnp.clip(vae.decode(latents), -1, 1)
    video = vae.decode(jnp.concatenate([motion, latents], axis=1), discard=motion.shape[1])
    return jnp.clip(video, -1, 1)
