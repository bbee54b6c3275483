"""The programs that sampling runs: their work, and what they are compiled for.

Which steps TeaCache skips depends on the weights, so that none is counted as skipped.
"""

import collections
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
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
from talkverse_jax.families.multitalk.settings import Settings, check_frames
from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.models.clip.flops import clip_flops
from talkverse_jax.models.vae.flops import encode_flops
from talkverse_jax.models.wan.sequence import padded
from talkverse_jax.models.wav2vec2.flops import audio_flops
from talkverse_jax.ops.names import Products
from talkverse_jax.pipeline.decoders import COMPONENTS as DECODERS
from talkverse_jax.pipeline.encoder_calls import picture_calls, speech_calls, text_calls, whole_picture, whole_text
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
)

_STEPS: dict[Computed, str] = {
    "all": "step", "ends": "skipped step", "first": "step, one branch", "none": "step, no model"
}  # fmt: skip


def sampling_work(configs: MultiTalkConfigs, settings: Settings, machine: Machine, size: tuple[int, int]) -> ClipWork:
    """What a clip of that size (H, W) and its conditions take."""
    dit, vae, (height, width) = configs.dit, configs.vae, size
    check_frames(settings, dit)
    frames, steps = settings.frame_num, settings.sample_steps
    branches = settings.branches
    h, w, latents = height // vae.space_stride, width // vae.space_stride, dit.latent_frames(frames)
    models = () if machine.offload_model else ("dit",)
    times = collections.Counter(spared(settings))
    speakers = len(dit.speaker_ranges)  # as many as there may be: fewer take less
    picture = dict(image=configs.clip.tokens, speakers=speakers)
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
        sound_work(audio_flops(configs.audio, SOUND_SECONDS * SAMPLE_RATE, SOUND_SECONDS * FPS), speakers),
    )
    fewest = fewest_branches(settings)
    return ClipWork(height, width, frames, steps, branches, programs, dtypes(machine), fewest=fewest)


def calls(
    configs: MultiTalkConfigs,
    settings: Settings,
    machine: Machine,
    size: tuple[int, int],
    mesh: Mesh | None,
    int8: Products | None = None,
    pack: int = 1,
    speakers: Sequence[int] = (),
) -> Calls:
    """What a run calls on the devices of a mesh, or, without, on one device.

    Args:
      pack: videos that are denoised together.
      speakers: numbers of them that a video may have; by default all that the weights know, the most first.
    """
    layouts = component_layouts(mesh, COMPONENTS.values(), machine.resident_blocks)
    of_dit = {"residual_dtype": jnp.dtype(machine.residual_dtype), "kernel": machine.attention}
    decoding = {"decode_dtype": jnp.dtype(machine.decode_dtype)}
    models = placed_models(COMPONENTS, configs, dtypes(machine), layouts, int8, dit=of_dit, vae=decoding)
    dit, vae, length = configs.dit, configs.vae, settings.frame_num
    speakers = speakers or range(len(dit.speaker_ranges), 0, -1)
    frames, channels, h, w = dit.latent_frames(length), vae.z_dim, *(n // vae.space_stride for n in size)
    layout, platform = layouts["dit"], layouts["dit"].platform
    put, at_rest = partial(put_array, layout, pack), partial(array, layout)
    text, image = put(dit.trunk.text_len, dit.trunk.text_dim), put(configs.clip.tokens, dit.image_dim)
    known, latents, mask = put(frames, h, w, dit.known_channels), put(frames, h, w, channels), put(frames, 1, 1, 1)
    decoder = models[DECODERS[settings.decoder]]
    prepare, branches = clips.prepare.jitted(platform), {"branches": settings.branches}

    def conditions(speakers: int) -> tuple[Any, ...]:
        window = speakers, dit.audio_window, dit.audio_layers, dit.audio_dim
        group = speakers, frames - 1, dit.group_window, dit.audio_layers, dit.audio_dim
        places = put(speakers + 1, h, w) if speakers > 1 else None
        return text, text, image, known, AudioWindows(put(*window), put(*group)), places

    walk = Walk(
        guidance(settings.branches, settings.use_apg),
        without_blocks([False, True]) if settings.use_teacache else spared(settings),
    )

    def prepared(speakers: int) -> Call:
        return Call(prepare, (models["dit"], *conditions(speakers)), branches)

    def step(kind: Computed, speakers: int) -> Call:
        made = None
        if kind != "none":
            made = prepare.eval_shape(models["dit"], *conditions(speakers), **branches)
            made = placed(made, layout, CONDITION_AXES)
        sample = at_rest(pack, frames, h, w, channels)
        kept = jax.tree.map(lambda _: sample, jax.eval_shape(walk.start, sample))
        state = LoopState(SolverState(*[sample] * 4), kept)
        if kind == "ends":
            rows = pack * walk.guidance.branches
            shape = rows, padded(clip_tokens(dit, frames, h, w)[0], layout), dit.trunk.dim
            cache = array(layout, *shape, axes=("batch", "stream", None), dtype=machine.dtype)
            state = state._replace(cache=cache)
        noise = number() if adds_noise(settings.sample_solver) else None
        one = Step(number(dtype=jnp.int32), number(), StepCoefficients(number(), number(), number(5), number(3), noise))
        hold = Kept(latents, mask) if dit.recipe == "infinitetalk" else Renoised(latents, mask)
        numbers = walk.scales(jax.tree.map(lambda _: number(), scales(settings)), (number(), number()))
        arrays = models["dit"], state, one, made, numbers, keys_of(layout, pack), hold
        fewer = kind == "first" and walk.guidance.branches > 1
        how = {"guidance": walk.guided(kind), "caching": settings.use_teacache, "fewer": fewer}
        return Call(denoising_step.jitted(platform), arrays, how)

    def encode(count: int) -> Call:
        return Call(clips.encode, (models["vae"], put_array(layouts["vae"], 1, count, *size, 3)))

    kinds: dict[Computed, str] = {kind: name for kind, name in _STEPS.items() if kind in walk.computed}

    def spoken(count: int, place: int) -> dict[str, Callable[[], Call]]:
        ending = f", {count} speaker{'s' * (count > 1)}" if place else ""
        made = {"prepare": partial(prepared, count)}
        made |= {name: partial(step, kind, count) for kind, name in kinds.items()}
        return {name + ending: call for name, call in made.items() if not place or name != _STEPS["none"]}

    def weighed() -> Call:
        return Call(clips.modulations, (models["dit"], number(settings.sample_steps)))

    again = {"encode, picture": 1, "encode, motion": settings.motion_frames(dit.recipe)}
    return Calls(
        models,
        {
            **({} if machine.t5_cpu else text_calls(models["text"], 2, dit.trunk.text_len)),
            **speech_calls(models["audio"]),
            "encode": lambda: encode(length),
            **({name: partial(encode, n) for name, n in again.items()} if dit.recipe == "infinitetalk" else {}),
            **picture_calls(models["clip"], size),
            **({"modulations": weighed} if settings.use_teacache else {}),
            **{name: call for place, count in enumerate(speakers) for name, call in spoken(count, place).items()},
            "decode": lambda: Call(clips.decode, (decoder, at_rest(1, frames, h, w, channels))),
        },
    )


def coming(calls: Calls) -> Iterator[Call]:
    """What a run comes to when its files are encoded."""
    for name, call in calls.made.items():
        if not name.startswith(("text", "audio")):
            yield call()


def programs(
    configs: MultiTalkConfigs,
    settings: Settings,
    machine: Machine,
    size: tuple[int, int],
    mesh: Mesh,
    int8: Products | None = None,
) -> list[Program]:
    """What a clip runs over the devices of a mesh, to be compiled."""
    found = calls(configs, settings, machine, size, mesh, int8)
    whole = {
        "text encoder": whole_text(found.models["text"], 2, configs.dit.trunk.text_len),
        "picture encoder": whole_picture(found.models["clip"], size),
    }
    return sampling_programs(sampling_work(configs, settings, machine, size), found._replace(made=found.made | whole))
