"""A video of any length, clip after clip: each clip sees the last 73 frames of what came before.

Shapes: n frames a clip, F latent frames, H W pixels, h w latent grid, C latent channels, T audio rows,
A audio width.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from talkverse_jax.core.compilation import model_jit
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.stopwatch import Stopwatch
from talkverse_jax.diffusion.flow import SolverName, make_schedule
from talkverse_jax.diffusion.guidance import guidance_batch
from talkverse_jax.diffusion.sample_loop import denoise
from talkverse_jax.models.talkverse.model import ClipConditions, TalkVerse
from talkverse_jax.models.vae.layers import PICTURES
from talkverse_jax.models.vae.model import WanVAE22
from talkverse_jax.pipelines.alignment import AudioAlignment, clip_audio, first_row
from talkverse_jax.pipelines.residency import resident
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
      offload_model: keep the transformer in host memory while the VAE works.
    """

    infer_frames: int
    sample_steps: int
    sample_shift: float
    sample_guide_scale: float
    sample_solver: SolverName
    init_first_frame: bool
    audio_alignment: AudioAlignment
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

    @property
    def guided(self) -> bool:
        """Whether the unconditional branch runs too."""
        return self.sample_guide_scale > 1


@dataclasses.dataclass(frozen=True)
class Clip:
    """One finished clip: frames [n, H, W, 3] in [-1, 1] and the latents [F, h, w, C] they were decoded from.

    Of several processes only process 0 has the frames; the others have None.
    """

    index: int
    frames: Float[np.ndarray, "n H W 3"] | None
    latents: Float[np.ndarray, "F h w C"]


def generate_clips(
    dit: TalkVerse,
    vae: WanVAE22,
    *,
    image: Float[np.ndarray, "H W 3"],
    text: Float[Array, "1 text_len D"],
    negative_text: Float[Array, "1 text_len D"],
    audio: Float[np.ndarray, "T layers A"],
    num_clips: int,
    settings: ClipSettings,
    noise: Callable[[int, tuple[int, ...]], Float[Array, "1 F h w C"]],
    stopwatch: Stopwatch,
    on_step: Callable[[], None] = lambda: None,
) -> Iterator[Clip]:
    """Yield the clips in order. Between clips only the last 73 frames are kept.

    Args:
      image: the reference picture in [-1, 1], already of the video's size.
      audio: features of the whole sound, 25 rows a second.
      noise: the noise of a clip, given its number and shape.
    """
    n, motion_frames = settings.infer_frames, dit.config.motion_frames
    target = dit.config.latent_frames(n)
    schedule = make_schedule(settings.sample_solver, settings.sample_steps, settings.sample_shift)
    put = dit.layout.put
    text, negative_text = put(text), put(negative_text)
    with stopwatch.phase("encoding"):
        reference = jax.block_until_ready(encode(vae, put(image[None, None])))
        past = np.zeros((1, motion_frames, *image.shape), np.float32)
        if settings.init_first_frame:
            past[:, -FIRST_FRAME_COPIES:] = image
        # Split as the VAE's own frames are, on the VAE's own mesh: `remember` joins both.
        history = split_for(vae.layout, 1, *reference.shape[2:4]).put(past, *PICTURES)
        del past
        motion = jax.block_until_ready(encode(vae, history)) if settings.init_first_frame else None
    for index in range(num_clips):
        start = first_row(index, n, settings.audio_alignment, history=settings.init_first_frame)
        rows = put(clip_audio(audio, start, n)[None])
        with resident(dit, settings.offload_model) as model, stopwatch.phase("denoising"):
            conditions = prepare(model, text, negative_text, rows, reference, motion, settings.guided)
            latents = denoise(
                model,
                noise(index, (1, target, *reference.shape[2:])),
                conditions,
                solver=settings.sample_solver,
                schedule=schedule,
                guide_scale=settings.sample_guide_scale,
                on_step=on_step,
            )
            del conditions  # gigabytes that the VAE can use
        with stopwatch.phase("decoding"):
            frames = decode(vae, motion, latents)
            history = jax.block_until_ready(remember(history, frames))
            shown = fetch(frames)
        yield Clip(index, None if shown is None else shown[0], np.asarray(latents)[0])
        del frames, shown, latents  # while the next clip is made, only the history of this one is kept
        if index + 1 < num_clips:
            with stopwatch.phase("encoding"):
                motion = jax.block_until_ready(encode(vae, history))


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
def remember(
    history: Float[Array, "1 M H W 3"], frames: Float[Array, "1 n H W 3"]
) -> Float[Array, "1 M H W 3"]:
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
