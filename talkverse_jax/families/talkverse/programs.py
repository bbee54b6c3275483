"""The programs that sampling runs: their work, and what they are compiled for."""

import collections
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from talkverse_jax.diffusion.denoise import LoopState, Step, denoising_step
from talkverse_jax.diffusion.solvers import SolverState, StepCoefficients
from talkverse_jax.diffusion.sparing import Computed, Walk
from talkverse_jax.families.talkverse import clips
from talkverse_jax.families.talkverse.axes import CONDITION_AXES
from talkverse_jax.families.talkverse.components import COMPONENTS, ModelConfigs, dtypes
from talkverse_jax.families.talkverse.flops import clip_tokens, prepare_flops, step_flops
from talkverse_jax.families.talkverse.guidance import computed, guidance
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


def sampling_work(configs: ModelConfigs, settings: Settings, machine: Machine, size: tuple[int, int]) -> ClipWork:
    """What a clip of that size (H, W) and its conditions take.

    Raises:
      UserError: a clip cannot have so many frames.
    """
    dit, vae, text, (height, width) = configs.dit, configs.vae, configs.text, size
    frames, steps, branches = settings.infer_frames, settings.sample_steps, 1 + settings.guided
    times = collections.Counter(computed(settings, steps))
    clips.check_frames(settings, vae)
    h, w = height // vae.space_stride, width // vae.space_stride
    latents, rows = dit.latent_frames(frames), dit.trunk.text_len
    models = () if machine.offload_model else ("dit",)

    def transformer(
        name: str, flops: Callable[..., int], motion: bool, times: int, when: Any = "clip", branches: int = branches
    ) -> Work:
        tokens = branches * clip_tokens(dit, latents, h, w, motion)[1]
        own = flops(dit, latents, h, w, motion=motion, branches=branches)
        return denoiser_work(name, own, times, trunk=dit.trunk, tokens=tokens, dtype=machine.dtype, when=when)

    spared = (
        transformer("step, one branch, first clip", step_flops, False, times["first"], "first", 1),
        transformer("step, one branch", step_flops, True, times["first"], branches=1),
    )
    drawn = transformer("step, no model", lambda *_, **__: 0, True, times["none"])
    pictures = partial(picture_work, vae=vae, size=size, dtype=machine.vae_dtype, beside=models)
    programs = (
        transformer("step, first clip", step_flops, False, times["all"], "first"),
        transformer("step", step_flops, True, times["all"]),
        *(spared if times["first"] else ()),
        *([drawn] if times["none"] else []),
        transformer("prepare", prepare_flops, True, 1),
        pictures("decode", decode_flops(vae, dit.motion_latent_frames + latents, h, w), vae.dec_dim),
        pictures("encode", encode_flops(vae, dit.motion_frames, height, width), vae.dim),
        text_work(text, 2, rows, machine.dtype),
        sound_work(audio_flops(configs.audio, SOUND_SECONDS * SAMPLE_RATE)),
    )
    return ClipWork(height, width, frames, steps, branches, programs, dtypes(machine), fewest=settings.fewest_branches)


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

    walk = Walk(guidance(settings.guided), computed(settings, settings.sample_steps))

    def step(motion: Any, kind: Computed = "all") -> Call:
        sample, made = put(1, latents, h, w, channels), None
        if kind != "none":
            made = prepare.eval_shape(models["dit"], *inputs, motion, guided=settings.guided)
            made = placed(made, layout, CONDITION_AXES)
        guided = jax.tree.map(lambda _: sample, jax.eval_shape(walk.start, sample))
        state = LoopState(SolverState(*[sample] * 4), guided)
        one = Step(put(dtype=jnp.int32), put(), StepCoefficients(put(), put(), put(5), put(3)))
        arrays = models["dit"], state, one, made, walk.scales(put(), (put(), put()))
        return Call(denoising_step.jitted(platform), arrays, {"guidance": walk.guided(kind), "fewer": kind == "first"})

    tokens, samples = encoding(2, trunk.text_len, dtype=jnp.int32), encoding(1, SOUND_SECONDS * SAMPLE_RATE)
    lengths, latent = encoding(1, dtype=jnp.int32), [of_vae(1, n, h, w, channels) for n in (history, latents)]
    calls = {
        "step, first clip": lambda: step(None),
        "step": lambda: step(motion),
        "step, one branch, first clip": lambda: step(None, "first"),
        "step, one branch": lambda: step(motion, "first"),
        "step, no model": lambda: step(motion, "none"),
        "prepare": lambda: Call(prepare, (models["dit"], *inputs, motion), {"guided": settings.guided}),
        "decode": lambda: Call(clips.decode, (models["vae"], *latent)),
        "encode": lambda: Call(clips.encode, (models["vae"], of_vae(1, dit.motion_frames, *size, 3))),
        "text encoder": lambda: Call(jax.jit(lambda model, *x: model(*x)), (models["text"], tokens, tokens)),
        "audio encoder": lambda: Call(every_second_state, (*nnx.split(models["audio"]), samples, lengths)),
    }
    return sampling_programs(clip, models, calls)
