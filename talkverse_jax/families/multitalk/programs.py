"""The programs that sampling runs: their work, and what they are compiled for.

Which steps TeaCache skips depends on the weights, so that none is counted as skipped.
"""

import collections
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from talkverse_jax.diffusion.denoise import LoopState, Step, denoising_step
from talkverse_jax.diffusion.solvers import SolverState, StepCoefficients, adds_noise
from talkverse_jax.diffusion.sparing import Computed, Walk, without_blocks
from talkverse_jax.families.multitalk import clips
from talkverse_jax.families.multitalk.audio import AudioWindows
from talkverse_jax.families.multitalk.axes import CONDITION_AXES
from talkverse_jax.families.multitalk.components import COMPONENTS, MultiTalkConfigs, dtypes
from talkverse_jax.families.multitalk.flops import clip_tokens, prepare_flops, skipped_step_flops, step_flops
from talkverse_jax.families.multitalk.guidance import fewest_branches, guidance, scales, spared
from talkverse_jax.families.multitalk.motion import Kept, Renoised
from talkverse_jax.families.multitalk.settings import Settings
from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.models.clip.flops import clip_flops
from talkverse_jax.models.vae.flops import encode_flops
from talkverse_jax.models.wan.sequence import padded
from talkverse_jax.models.wav2vec2.flops import audio_flops
from talkverse_jax.models.wav2vec2.moments import Moments
from talkverse_jax.ops.names import Products
from talkverse_jax.pipeline.decoders import COMPONENTS as DECODERS
from talkverse_jax.pipeline.encoders import SAMPLE_RATE
from talkverse_jax.pipeline.machine import Machine
from talkverse_jax.pipeline.model_work import (
    SOUND_SECONDS,
    decode_work,
    denoiser_work,
    picture_work,
    sound_work,
    text_work,
)
from talkverse_jax.pipeline.placement import component_layouts
from talkverse_jax.pipeline.programs import (
    Call,
    Calls,
    ClipWork,
    Program,
    Work,
    array,
    keys_of,
    placed,
    placed_models,
    sampling_programs,
)
from talkverse_jax.pipeline.speech import layer_outputs

SPEAKERS = 2  # of the video that is planned; one speaker takes less


def sampling_work(configs: MultiTalkConfigs, settings: Settings, machine: Machine, size: tuple[int, int]) -> ClipWork:
    """What a clip of that size (H, W) and its conditions take."""
    dit, vae, (height, width) = configs.dit, configs.vae, size
    frames, steps = settings.frame_num, settings.sample_steps
    branches = settings.branches
    h, w, latents = height // vae.space_stride, width // vae.space_stride, dit.latent_frames(frames)
    models = () if machine.offload_model else ("dit",)
    times = collections.Counter(spared(settings))
    picture = dict(image=configs.clip.tokens, speakers=SPEAKERS)
    kwargs: Any = dict(trunk=dit.trunk, dtype=machine.dtype, beside=("vae", "clip"))

    def transformer(name: str, flops: int, times: int, rows: int = branches) -> Work:
        return denoiser_work(name, rows * flops, times, tokens=rows * clip_tokens(dit, latents, h, w)[0], **kwargs)

    pictures = partial(picture_work, vae=vae, size=size, dtype=machine.vae_dtype, beside=("clip", *models))
    step = step_flops(dit, latents, h, w, **picture)
    programs = (
        transformer("step", step, times["all"]),
        *([transformer("skipped step", skipped_step_flops(dit, latents, h, w), 0)] if settings.use_teacache else []),
        *([transformer("step, one branch", step, times["first"], 1)] if times["first"] else []),
        *([transformer("step, no model", 0, times["none"])] if times["none"] else []),
        transformer("prepare", prepare_flops(dit, latents, **picture), 1),
        decode_work(
            configs, settings.decoder, latents, size=size, dtype=machine.decode_dtype, beside=("clip", *models)
        ),
        pictures("encode", encode_flops(vae, frames, height, width), vae.dim),
        Work("picture encoder", clip_flops(configs.clip, 1, height, width), 1, "clip", "clip", ("vae", *models), True),
        text_work(configs.text, 2, dit.trunk.text_len, machine.dtype),
        sound_work(audio_flops(configs.audio, SOUND_SECONDS * SAMPLE_RATE, SOUND_SECONDS * FPS), SPEAKERS),
    )
    fewest = fewest_branches(settings)
    return ClipWork(height, width, frames, steps, branches, programs, dtypes(machine), fewest=fewest)


def programs(
    configs: MultiTalkConfigs,
    settings: Settings,
    machine: Machine,
    size: tuple[int, int],
    mesh: Mesh,
    int8: Products | None = None,
) -> list[Program]:
    """The same over the devices of a mesh, to be compiled."""
    work = sampling_work(configs, settings, machine, size)
    layouts = component_layouts(mesh, COMPONENTS.values(), machine.resident_blocks)
    stream = {"residual_dtype": jnp.dtype(machine.residual_dtype)}
    decoding = {"decode_dtype": jnp.dtype(machine.decode_dtype)}
    models = placed_models(COMPONENTS, configs, work.dtypes, layouts, int8, dit=stream, vae=decoding)
    dit, vae, (height, width) = configs.dit, configs.vae, size
    frames, channels, h, w = dit.latent_frames(work.frames), vae.z_dim, *(n // vae.space_stride for n in size)
    layout, platform = layouts["dit"], layouts["dit"].platform
    put, of_vae, encoding, hearing = (partial(array, layouts[name]) for name in ("dit", "vae", "text", "audio"))
    text = put(1, dit.trunk.text_len, dit.trunk.text_dim)
    window = SPEAKERS, dit.audio_window, dit.audio_layers, dit.audio_dim
    group = SPEAKERS, frames - 1, dit.group_window, dit.audio_layers, dit.audio_dim
    conditions = (
        *(text, text, put(1, configs.clip.tokens, dit.image_dim), put(1, frames, h, w, dit.known_channels)),
        AudioWindows(put(1, *window), put(1, *group)),
        put(1, SPEAKERS + 1, h, w),
    )
    prepare, guided = clips.prepare.jitted(platform), {"branches": settings.branches}
    latents, mask = put(1, frames, h, w, channels), put(1, frames, 1, 1, 1)

    how = guidance(settings.branches, settings.use_apg)
    walk = Walk(how, without_blocks([False, True]) if settings.use_teacache else spared(settings))

    def step(kind: Computed = "all") -> Call:
        made = None
        if kind != "none":
            made = placed(prepare.eval_shape(models["dit"], *conditions, **guided), layout, CONDITION_AXES)
        kept = jax.tree.map(lambda _: latents, jax.eval_shape(walk.start, latents))
        state = LoopState(SolverState(*[latents] * 4), kept)
        if kind == "ends":
            shape = work.branches, padded(clip_tokens(dit, frames, h, w)[0], layout), dit.trunk.dim
            cache = array(layout, *shape, axes=("batch", "stream", None), dtype=machine.dtype)
            state = state._replace(cache=cache)
        noise = put() if adds_noise(settings.sample_solver) else None
        one = Step(put(dtype=jnp.int32), put(), StepCoefficients(put(), put(), put(5), put(3), noise))
        hold = Kept(latents, mask) if dit.recipe == "infinitetalk" else Renoised(latents, mask)
        numbers = walk.scales(jax.tree.map(lambda _: put(), scales(settings)), (put(), put()))
        static = {"guidance": walk.guided(kind), "caching": settings.use_teacache, "fewer": kind == "first"}
        arrays = models["dit"], state, one, made, numbers, keys_of(layout, 1), hold
        return Call(denoising_step.jitted(platform), arrays, static)

    def sound() -> Call:
        config, rows = configs.audio, SOUND_SECONDS * FPS
        samples = SOUND_SECONDS * SAMPLE_RATE + 2 * config.hop + config.field
        moments = Moments(hearing(1), *[hearing(1, config.conv_dim[0])] * 2)
        places = hearing(rows, dtype=jnp.int32), hearing(rows), hearing(1, dtype=jnp.int32)
        return Call(layer_outputs, (*nnx.split(models["audio"]), hearing(1, samples), moments, *places))

    tokens = encoding(2, dit.trunk.text_len, dtype=jnp.int32)
    run = jax.jit(lambda model, *x: model(*x))
    calls = {
        "step": step,
        "skipped step": lambda: step("ends"),
        "step, one branch": lambda: step("first"),
        "step, no model": lambda: step("none"),
        "prepare": lambda: Call(prepare, (models["dit"], *conditions), guided),
        "decode": lambda: Call(clips.decode, (models[DECODERS[settings.decoder]], of_vae(1, frames, h, w, channels))),
        "encode": lambda: Call(clips.encode, (models["vae"], of_vae(1, work.frames, height, width, 3))),
        "picture encoder": lambda: Call(run, (models["clip"], array(layouts["clip"], 1, height, width, 3))),
        "text encoder": lambda: Call(run, (models["text"], tokens, tokens)),
        "audio encoder": sound,
    }
    return sampling_programs(work, Calls(models, calls))
