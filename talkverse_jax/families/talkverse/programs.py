"""The programs that sampling runs: their work, and what they are compiled for."""

import collections
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from talkverse_jax.diffusion.denoise import LoopState, Step, denoising_step
from talkverse_jax.diffusion.solvers import SolverState, StepCoefficients, adds_noise
from talkverse_jax.diffusion.sparing import Computed, Walk
from talkverse_jax.families.talkverse import clips
from talkverse_jax.families.talkverse.axes import CONDITION_AXES
from talkverse_jax.families.talkverse.components import COMPONENTS, ModelConfigs, dtypes
from talkverse_jax.families.talkverse.flops import clip_tokens, prepare_flops, step_flops
from talkverse_jax.families.talkverse.guidance import computed, guidance
from talkverse_jax.families.talkverse.settings import Settings
from talkverse_jax.models.vae.flops import encode_flops
from talkverse_jax.models.wav2vec2.flops import audio_flops
from talkverse_jax.ops.names import Products
from talkverse_jax.pipeline.decoders import COMPONENTS as DECODERS
from talkverse_jax.pipeline.encoder_calls import sound_calls, text_calls, whole_text
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
    number,
    placed,
    placed_models,
    put_array,
    sampling_programs,
    split_array,
)
from talkverse_jax.sharding.pictures import PICTURES, split_for

_OF_CLIPS = ("encode", "prepare", "step", "decode")  # how their programs' names begin


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
    again = min(settings.decode_context or dit.motion_latent_frames, dit.motion_latent_frames)
    models = () if machine.offload_model else ("dit",)

    def transformer(
        name: str, flops: Callable[..., int], motion: bool, times: int, when: Any = "clip", branches: int = branches
    ) -> Work:
        tokens = branches * clip_tokens(dit, latents, h, w, motion)[1]
        own = flops(dit, latents, h, w, motion=motion, branches=branches)
        return denoiser_work(name, own, times, trunk=dit.trunk, tokens=tokens, dtype=machine.dtype, when=when)

    seen = settings.empty_history  # whether a first clip has tokens of motion
    spared = (
        transformer("step, one branch, first clip", step_flops, seen, times["first"], "first", 1),
        transformer("step, one branch", step_flops, True, times["first"], branches=1),
    )
    drawn = transformer("step, no model", lambda *_, **__: 0, True, times["none"])
    pictures = partial(picture_work, vae=vae, size=size, dtype=machine.vae_dtype, beside=models)
    programs = (
        transformer("step, first clip", step_flops, seen, times["all"], "first"),
        transformer("step", step_flops, True, times["all"]),
        *(spared if times["first"] else ()),
        *([drawn] if times["none"] else []),
        transformer("prepare", prepare_flops, True, 1),
        decode_work(configs, settings.decoder, latents, again, size=size, dtype=machine.decode_dtype, beside=models),
        pictures("encode", encode_flops(vae, dit.motion_frames, height, width), vae.dim),
        text_work(text, 2, rows, machine.dtype),
        sound_work(audio_flops(configs.audio, SOUND_SECONDS * SAMPLE_RATE)),
    )
    return ClipWork(height, width, frames, steps, branches, programs, dtypes(machine), fewest=settings.fewest_branches)


def calls(
    configs: ModelConfigs,
    settings: Settings,
    machine: Machine,
    size: tuple[int, int],
    mesh: Mesh | None,
    int8: Products | None = None,
    pack: int = 1,
) -> Calls:
    """What a run calls on the devices of a mesh, or, without, on one device.

    Args:
      pack: videos that are denoised together.
    """
    layouts = component_layouts(mesh, COMPONENTS.values(), machine.resident_blocks)
    of_dit = {"residual_dtype": jnp.dtype(machine.residual_dtype), "kernel": machine.attention}
    decoding = {"decode_dtype": jnp.dtype(machine.decode_dtype)}
    models = placed_models(COMPONENTS, configs, dtypes(machine), layouts, int8, dit=of_dit, vae=decoding)
    dit, trunk, channels = configs.dit, configs.dit.trunk, configs.vae.z_dim
    h, w = (n // configs.vae.space_stride for n in size)
    latents, history = dit.latent_frames(settings.infer_frames), dit.motion_latent_frames
    layout, split, platform = layouts["dit"], split_for(layouts["vae"], 1, h, w), layouts["dit"].platform
    put, of_vae, seen = partial(array, layout), partial(array, layouts["vae"]), partial(split_array, split)
    text = put_array(layout, pack, trunk.text_len, trunk.text_dim)
    audio = put_array(layout, pack, 4 * latents, dit.audio_layers, dit.audio_dim)
    inputs, motion = (text, text, audio, put(pack, 1, h, w, channels)), put(pack, history, h, w, channels)
    first = motion if settings.empty_history else None
    prepare = clips.prepare.jitted(platform)

    def prepared(motion: Any) -> Call:
        return Call(prepare, (models["dit"], *inputs, motion), {"guided": settings.guided})

    walk = Walk(guidance(settings.guided), computed(settings, settings.sample_steps))
    kinds = {kind for kind in walk.computed if kind != "all"}

    def step(motion: Any, kind: Computed = "all") -> Call:
        sample, made = put(pack, latents, h, w, channels), None
        if kind != "none":
            made = prepare.eval_shape(models["dit"], *inputs, motion, guided=settings.guided)
            made = placed(made, layout, CONDITION_AXES)
        state = LoopState(
            SolverState(*[sample] * 4), jax.tree.map(lambda _: sample, jax.eval_shape(walk.start, sample))
        )
        noise, keys = (number(), keys_of(layout, pack)) if adds_noise(settings.sample_solver) else (None, None)
        numbers = StepCoefficients(number(), number(), number(5), number(3), noise)
        one = Step(number(dtype=jnp.int32), number(), numbers)
        arrays = models["dit"], state, one, made, walk.scales(number(), (number(), number())), keys, None
        how = {"guidance": walk.guided(kind), "caching": False, "fewer": kind == "first"}
        return Call(denoising_step.jitted(platform), arrays, how)

    spared = {
        "step, one branch, first clip": ("first", lambda: step(first, "first")),
        "step, one branch": ("first", lambda: step(motion, "first")),
        "step, no model": ("none", lambda: step(motion, "none")),
    }

    def decode(motion: Any) -> Call:
        made = models[DECODERS[settings.decoder]], motion, of_vae(1, latents, h, w, channels)
        return Call(clips.decode, made, {"context": settings.decode_context})

    def encode(video: Any) -> Call:
        return Call(clips.encode, (models["vae"], video))

    before = seen(1, history, h, w, channels, axes=PICTURES)
    frames = seen(1, dit.motion_frames, *size, 3, axes=PICTURES)
    picture = put_array(layouts["vae"], 1, 1, *size, 3)
    return Calls(
        models,
        {
            **({} if machine.t5_cpu else text_calls(models["text"], 2, trunk.text_len)),
            **sound_calls(models["audio"]),
            "encode, picture": lambda: encode(picture),
            "prepare, first clip": lambda: prepared(first),
            "step, first clip": lambda: step(first),
            "decode, first clip": lambda: decode(None),
            "encode": lambda: encode(frames),
            "prepare": lambda: prepared(motion),
            "step": lambda: step(motion),
            "decode": lambda: decode(before),
            **{name: call for name, (kind, call) in spared.items() if kind in kinds},
        },
    )


def coming(calls: Calls, first: bool, later: bool) -> Iterator[Call]:
    """What a run comes to when its files are encoded.

    Args:
      first: a clip without motion frames comes.
      later: clips with them do.
    """
    for name, call in calls.made.items():
        is_first = name.endswith("first clip")
        if name == "encode, picture" or name.startswith(_OF_CLIPS) and (first if is_first else later):
            yield call()


def programs(
    configs: ModelConfigs,
    settings: Settings,
    machine: Machine,
    size: tuple[int, int],
    mesh: Mesh,
    int8: Products | None = None,
) -> list[Program]:
    """What a clip runs over the devices of a mesh, to be compiled."""
    found = calls(configs, settings, machine, size, mesh, int8)
    whole = {"text encoder": whole_text(found.models["text"], 2, configs.dit.trunk.text_len)}
    return sampling_programs(sampling_work(configs, settings, machine, size), found._replace(made=found.made | whole))
