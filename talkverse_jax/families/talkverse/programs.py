"""The programs that sampling runs: their work, and what they are compiled for."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from talkverse_jax.diffusion.denoise import LoopState, Step, denoising_step
from talkverse_jax.diffusion.solvers import SolverState, StepCoefficients
from talkverse_jax.families.talkverse import clips
from talkverse_jax.families.talkverse.components import COMPONENTS, ModelConfigs, dtypes
from talkverse_jax.families.talkverse.flops import clip_tokens, prepare_flops, step_flops
from talkverse_jax.families.talkverse.guidance import guidance
from talkverse_jax.families.talkverse.settings import Settings
from talkverse_jax.models.vae.flops import decode_flops, encode_flops
from talkverse_jax.models.wav2vec2.flops import audio_flops
from talkverse_jax.ops.names import Products
from talkverse_jax.pipeline.encoders import SAMPLE_RATE, every_second_state
from talkverse_jax.pipeline.machine import Machine
from talkverse_jax.pipeline.model_work import SOUND_SECONDS, denoiser_work, picture_work, sound_work, text_work
from talkverse_jax.pipeline.placement import component_layouts
from talkverse_jax.pipeline.programs import (
    Call,
    ClipWork,
    Program,
    Work,
    array,
    placed,
    placed_models,
    sampling_programs,
)

# Of the parts of `ClipConditions`, the logical axes behind the one of stacked layers.
_CONDITION_AXES = {
    "keys": ("batch", None, "heads", None),
    "values": ("batch", None, "heads", None),
    "shift": ("batch", None, None),
    "scale": ("batch", None, None),
    "clean_tokens": ("batch", None, None),
    "clean_time": (None, None, None),
    "cos": ("tokens", None),
    "sin": ("tokens", None),
}


def sampling_work(configs: ModelConfigs, settings: Settings, machine: Machine, size: tuple[int, int]) -> ClipWork:
    """What a clip of that size (H, W) and its conditions take.

    Raises:
      UserError: a clip cannot have so many frames.
    """
    dit, vae, text, (height, width) = configs.dit, configs.vae, configs.text, size
    frames, steps, branches = settings.infer_frames, settings.sample_steps, 1 + settings.guided
    clips.check_frames(settings, vae)
    h, w = height // vae.space_stride, width // vae.space_stride
    latents, rows = dit.latent_frames(frames), dit.trunk.text_len
    models = () if machine.offload_model else ("dit",)

    def transformer(name: str, flops: Callable[..., int], motion: bool, times: int, when: Any = "clip") -> Work:
        tokens = branches * clip_tokens(dit, latents, h, w, motion)[1]
        own = flops(dit, latents, h, w, motion=motion, branches=branches)
        return denoiser_work(name, own, times, trunk=dit.trunk, tokens=tokens, dtype=machine.dtype, when=when)

    pictures = partial(picture_work, vae=vae, size=size, dtype=machine.vae_dtype, beside=models)
    programs = (
        transformer("step, first clip", step_flops, False, steps, "first"),
        transformer("step", step_flops, True, steps),
        transformer("prepare", prepare_flops, True, 1),
        pictures("decode", decode_flops(vae, dit.motion_latent_frames + latents, h, w), vae.dec_dim),
        pictures("encode", encode_flops(vae, dit.motion_frames, height, width), vae.dim),
        text_work(text, 2, rows, machine.dtype),
        sound_work(audio_flops(configs.audio, SOUND_SECONDS * SAMPLE_RATE)),
    )
    return ClipWork(height, width, frames, steps, branches, programs, dtypes(machine))


def programs(
    configs: ModelConfigs,
    settings: Settings,
    machine: Machine,
    size: tuple[int, int],
    mesh: Mesh,
    int8: Products | None = None,
) -> list[Program]:
    """The same over the devices of a mesh, to be compiled."""
    clip = sampling_work(configs, settings, machine, size)
    layouts = component_layouts(mesh, COMPONENTS.values(), machine.resident_blocks)
    stream = {"residual_dtype": jnp.dtype(machine.residual_dtype)}
    models = placed_models(COMPONENTS, configs, clip.dtypes, layouts, int8, dit=stream)
    dit, trunk, channels = configs.dit, configs.dit.trunk, configs.vae.z_dim
    h, w = (n // configs.vae.space_stride for n in size)
    latents, history = dit.latent_frames(clip.frames), dit.motion_latent_frames
    layout, platform = layouts["dit"], layouts["dit"].platform
    put, of_vae, encoding = (partial(array, layouts[name]) for name in ("dit", "vae", "text"))
    text = put(1, trunk.text_len, trunk.text_dim)
    audio, reference = put(1, 4 * latents, dit.audio_layers, dit.audio_dim), put(1, 1, h, w, channels)
    inputs, motion = (text, text, audio, reference), put(1, history, h, w, channels)
    prepare = clips.prepare.jitted(platform)

    def step(motion: Any) -> Call:
        made = prepare.eval_shape(models["dit"], *inputs, motion, guided=settings.guided)
        state = LoopState(SolverState(*[put(1, latents, h, w, channels)] * 4))
        one = Step(put(dtype=jnp.int32), put(), StepCoefficients(put(), put(), put(5), put(3)))
        arrays = models["dit"], state, one, placed(made, layout, _CONDITION_AXES), put()
        return Call(denoising_step.jitted(platform), arrays, {"guidance": guidance(settings.guided)})

    tokens, samples = encoding(2, trunk.text_len, dtype=jnp.int32), encoding(1, SOUND_SECONDS * SAMPLE_RATE)
    lengths, latent = encoding(1, dtype=jnp.int32), [of_vae(1, n, h, w, channels) for n in (history, latents)]
    calls = {
        "step, first clip": lambda: step(None),
        "step": lambda: step(motion),
        "prepare": lambda: Call(prepare, (models["dit"], *inputs, motion), {"guided": settings.guided}),
        "decode": lambda: Call(clips.decode, (models["vae"], *latent)),
        "encode": lambda: Call(clips.encode, (models["vae"], of_vae(1, dit.motion_frames, *size, 3))),
        "text encoder": lambda: Call(jax.jit(lambda model, *x: model(*x)), (models["text"], tokens, tokens)),
        "audio encoder": lambda: Call(every_second_state, (*nnx.split(models["audio"]), samples, lengths)),
    }
    return sampling_programs(clip, models, calls)
