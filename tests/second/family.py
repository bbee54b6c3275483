"""A family that exists to prove the walls: nothing outside this folder knows it."""

from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from talkverse_jax.diffusion.denoise import LoopState, Step, denoising_step
from talkverse_jax.diffusion.solvers import SolverState, StepCoefficients
from talkverse_jax.media.buckets import sizes
from talkverse_jax.models.umt5.flops import text_flops
from talkverse_jax.models.vae.flops import decode_flops, encode_flops
from talkverse_jax.models.wan.flops import block_flops, context_flops, ends_flops
from talkverse_jax.models.wav2vec2.flops import audio_flops
from talkverse_jax.ops.flops import linear
from talkverse_jax.pipeline.encoders import every_second_state
from talkverse_jax.pipeline.family import Family
from talkverse_jax.pipeline.machine import Machine
from talkverse_jax.pipeline.placement import component_layouts
from talkverse_jax.pipeline.programs import (
    Call,
    Calls,
    ClipWork,
    Program,
    Work,
    array,
    placed_models,
    sampling_programs,
)
from tests.second import pipeline
from tests.second.components import COMPONENTS, SOURCES, Configs, dtypes
from tests.second.model import Holding
from tests.second.parity import CASES
from tests.second.settings import BUCKET, Settings
from tests.second.training import TRAINING

_SAMPLES = 16_000  # of the sound that is planned for


def sampling_work(configs: Configs, settings: Settings, machine: Machine, size: tuple[int, int]) -> ClipWork:
    pipeline.check_frames(configs, settings)
    trunk, vae, eye, (height, width) = configs.net.trunk, configs.pixels, configs.eye, size
    h, w = height // vae.space_stride, width // vae.space_stride
    frames, rows = vae.latent_frames(settings.clip_frames), pipeline.GUIDANCE.branches
    tokens, context = frames * (h // 2) * (w // 2), eye.tokens + trunk.text_len
    skipped = settings.steps // 2 if settings.skip else 0
    blocks, ends = trunk.num_layers * block_flops(trunk, tokens, context), ends_flops(trunk, tokens)
    sounds = linear(frames, configs.net.sounds * configs.net.audio_dim, trunk.dim)
    shared = context_flops(trunk, context, trunk.text_len) + linear(eye.tokens, eye.out_dim, trunk.dim) + sounds
    patches = (height // eye.patch) * (width // eye.patch)
    seen = linear(patches, 3 * eye.patch**2, eye.width) + linear(1, eye.width, eye.tokens * eye.out_dim)
    works = [
        Work("step", rows * (blocks + ends), settings.steps - skipped, "clip", "net", ("pixels",)),
        Work("step, skipped", rows * ends, skipped, "clip", "net", ("pixels",)),
        Work("prepare", rows * shared, 1, "clip", "net", ("pixels",)),
        Work("decode", decode_flops(vae, frames, h, w), 1, "clip", "pixels", ("net",), float32=True),
        Work("encode", encode_flops(vae, settings.overlap, height, width), 1, "clip", "pixels", ("net",), float32=True),
        Work("look", seen, 1, "clip", "eye", ("net",), float32=True),
        Work("words", text_flops(configs.words, 2, trunk.text_len), 1, "video", "words"),
        Work("ears", audio_flops(configs.ears, _SAMPLES), 2, "video", "ears", float32=True),
    ]
    works = tuple(work for work in works if work.times)
    return ClipWork(height, width, settings.clip_frames, settings.steps, rows, works, dtypes(machine))


def programs(
    configs: Configs, settings: Settings, machine: Machine, size: tuple[int, int], mesh: Mesh, int8=None
) -> list[Program]:
    clip = sampling_work(configs, settings, machine, size)
    layouts = component_layouts(mesh, COMPONENTS.values(), machine.resident_blocks)
    models = placed_models(COMPONENTS, configs, clip.dtypes, layouts)
    net, vae, layout = configs.net, configs.pixels, layouts["net"]
    put = lambda *shape, dtype="float32": array(layout, *shape, dtype=dtype)  # noqa: E731
    latents = put(1, vae.latent_frames(clip.frames), *(n // vae.space_stride for n in size), vae.z_dim)
    text, sounds = put(1, net.trunk.text_len, net.trunk.text_dim), put(1, latents.shape[1], net.sounds, net.audio_dim)
    prepare = pipeline.prepare.jitted(layout.platform)
    inputs = (models["net"], text, text, sounds, put(1, configs.eye.tokens, net.look_dim), latents)

    def step(skipped: bool) -> Call:
        made = prepare.eval_shape(*inputs)
        conditions = jax.tree.map(lambda x: put(*x.shape, dtype=x.dtype), made)
        cache = put(3, conditions.rope.cos.shape[0], net.trunk.dim) if skipped else None
        one = Step(put(dtype="int32"), put(), StepCoefficients(put(), put(), put(5), put(3)))
        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
        state, hold = (
            LoopState(SolverState(*[latents] * 4), None, cache),
            Holding(latents, put(1, latents.shape[1], 1, 1, 1)),
        )
        arrays: tuple[Any, ...] = (models["net"], state, one, conditions, (put(), put()), keys, hold)
        how = {"guidance": pipeline.GUIDANCE, "caching": settings.skip}
        return Call(denoising_step.jitted(layout.platform), arrays, how)

    ids, video = put(2, net.trunk.text_len, dtype="int32"), put(1, settings.overlap, *size, 3)
    sound = put(1, _SAMPLES), put(1, dtype="int32")
    calls = {
        "step": lambda: step(False),
        "step, skipped": lambda: step(True),
        "prepare": lambda: Call(prepare, inputs),
        "decode": lambda: Call(pipeline.decode, (models["pixels"], latents)),
        "encode": lambda: Call(pipeline.encode, (models["pixels"], video)),
        "look": lambda: Call(pipeline.see, (models["eye"], put(1, *size, 3))),
        "words": lambda: Call(jax.jit(lambda model, *x: model(*x)), (models["words"], ids, ids)),
        "ears": lambda: Call(every_second_state, (*nnx.split(models["ears"]), *sound)),
    }
    return sampling_programs(clip, Calls(models, calls))


FAMILY = Family(
    name="second",
    title="the second family",
    components=COMPONENTS,
    configs_type=Configs,
    sources=SOURCES,
    load_pipeline=pipeline.SecondPipeline,
    read=pipeline.read,
    timeline=pipeline.timeline_of,
    heads=lambda configs: configs.net.trunk.num_heads,
    sizes=lambda settings: sizes(BUCKET),
    sampling_work=sampling_work,
    programs=programs,
    training=TRAINING,
    parity_cases=CASES,
)
