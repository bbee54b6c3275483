"""The programs that sampling runs, as a plan compiles them: functions, and their arguments' shapes and places."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from talkverse_jax.core import tree
from talkverse_jax.diffusion.denoise import LoopState, Step, denoising_step
from talkverse_jax.diffusion.solvers import SolverState, StepCoefficients
from talkverse_jax.families.talkverse import clips as long_video
from talkverse_jax.families.talkverse import flops as model_flops
from talkverse_jax.families.talkverse.components import COMPONENTS, ModelConfigs
from talkverse_jax.families.talkverse.guidance import guidance
from talkverse_jax.families.talkverse.model import ClipConditions
from talkverse_jax.pipeline import encoders
from talkverse_jax.pipeline.placement import component_layouts
from talkverse_jax.run.sample_options import SampleOptions
from talkverse_jax.sharding.layout import Layout

SOUND_SECONDS = 60  # of the audio encoder's program


@dataclasses.dataclass(frozen=True)
class Job:
    """What is sampled: a clip of `frames` frames of height x width pixels."""

    height: int
    width: int
    frames: int
    steps: int
    guided: bool

    def __str__(self) -> str:
        guided = ", guidance" if self.guided else ""
        return f"{self.width}x{self.height}, {self.frames} frames, {self.steps} steps{guided}"


@dataclasses.dataclass(frozen=True)
class Work:
    """One program of a job, by what the models ask for.

    Attributes:
      flops: the models' own, on all devices together.
      times: how often it runs ...
      when: ... in every `clip`, in the `first` alone, in a `video`, or in an `update` of training.
      component: whose weights it takes.
      beside: components whose weights stay in memory meanwhile.
      float32: its products are of float32.
      tokens: of all branches together, where it is a transformer's.
    """

    name: str
    flops: float
    times: int
    when: Literal["clip", "first", "video", "update"]
    component: str
    beside: tuple[str, ...] = ()
    float32: bool = False
    tokens: int = 0


@dataclasses.dataclass(frozen=True)
class Program:
    """Something to compile.

    Attributes:
      function: jitted; `function.lower(*args, **static)`.
      args, static: arrays' shapes, types and shardings, among them the model's; and what is no array.
      weights: bytes a device of the model's.
      beside: bytes a device of what else is in memory, by name.
    """

    work: Work
    function: Callable
    args: tuple[Any, ...]
    static: dict[str, Any]
    weights: int
    beside: dict[str, int]


def sampling_work(configs: ModelConfigs, options: SampleOptions, job: Job) -> list[Work]:
    """What one clip and its conditions take, in the order of their cost to a person who waits."""
    dit, branches = configs.dit, 1 + job.guided
    h, w = (n // configs.vae.space_stride for n in (job.height, job.width))
    latents = dit.latent_frames(job.frames)
    models = () if options.offload_model else ("dit",)
    f32 = options.dtype == "float32"

    def transformer(name: str, flops: Callable[..., int], motion: bool, times: int, when="clip") -> Work:
        tokens = branches * model_flops.clip_tokens(dit, latents, h, w, motion)[1]
        own = flops(dit, latents, h, w, motion=motion, branches=branches)
        return Work(name, own, times, when, "dit", ("vae",), f32, tokens)

    def pictures(name: str, flops: int) -> Work:
        return Work(name, flops, 1, "clip", "vae", models, options.vae_dtype == "float32")

    history = dit.motion_frames
    text_len = dit.trunk.text_len
    samples = SOUND_SECONDS * encoders.SAMPLE_RATE
    return [
        transformer("step, first clip", model_flops.step_flops, False, job.steps, "first"),
        transformer("step", model_flops.step_flops, True, job.steps),
        transformer("prepare", model_flops.prepare_flops, True, 1),
        pictures("decode", model_flops.decode_flops(configs.vae, dit.motion_latent_frames + latents, h, w)),
        pictures("encode", model_flops.encode_flops(configs.vae, history, job.height, job.width)),
        Work("text encoder", model_flops.text_flops(configs.text, 2, text_len), 1, "video", "text", (), f32),
        Work("audio encoder", model_flops.audio_flops(configs.audio, samples), 1, "video", "audio", (), True),
    ]


def sampling_programs(configs: ModelConfigs, options: SampleOptions, job: Job, mesh: Mesh) -> list[Program]:
    """The programs of `sampling_work`, over the devices of `mesh`."""
    layouts, dtypes = component_layouts(mesh), options.dtypes
    layout, pictures, encoding = layouts["dit"], layouts["vae"], layouts["text"]
    models = {
        name: _placed(COMPONENTS[name], getattr(configs, name), jnp.dtype(dtypes[name]), layouts[name])
        for name in COMPONENTS
    }
    weights = {name: weight_bytes(model) for name, model in models.items()}
    h, w = (n // configs.vae.space_stride for n in (job.height, job.width))
    latents, history = configs.dit.latent_frames(job.frames), configs.dit.motion_latent_frames
    channels = configs.vae.z_dim
    trunk, platform = configs.dit.trunk, layout.platform

    def put(layout: Layout, *shape: int, axes: tuple[str | None, ...] = (), dtype=jnp.float32):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=layout.sharding(*axes))

    state = LoopState(SolverState(*[put(layout, 1, latents, h, w, channels)] * 4))
    row = StepCoefficients(put(layout), put(layout), put(layout, 5), put(layout, 3))
    one = Step(put(layout, dtype=jnp.int32), put(layout), row)
    conditions = (
        *[put(layout, 1, trunk.text_len, trunk.text_dim)] * 2,
        put(layout, 1, 4 * latents, configs.dit.audio_layers, configs.dit.audio_dim),
        put(layout, 1, 1, h, w, channels),
    )
    motion = put(layout, 1, history, h, w, channels)

    def step(motion):
        made = jax.eval_shape(
            lambda *x: long_video.prepare.__wrapped__(*x, guided=job.guided), models["dit"], *conditions, motion
        )
        clip = _placed_conditions(made, layout)
        static = {"guidance": guidance(job.guided)}
        return denoising_step.jitted(platform), (models["dit"], state, one, clip, put(layout)), static

    prepare = long_video.prepare.jitted(platform)
    video = put(pictures, 1, configs.dit.motion_frames, job.height, job.width, 3)
    tokens = put(encoding, 2, trunk.text_len, dtype=jnp.int32)
    sound = put(encoding, 1, SOUND_SECONDS * encoders.SAMPLE_RATE)
    made = {
        "step, first clip": step(None),
        "step": step(motion),
        "prepare": (prepare, (models["dit"], *conditions, motion), {"guided": job.guided}),
        "decode": (
            long_video.decode,
            (models["vae"], put(pictures, 1, history, h, w, channels), put(pictures, 1, latents, h, w, channels)),
            {},
        ),
        "encode": (long_video.encode, (models["vae"], video), {}),
        "text encoder": (jax.jit(lambda model, *x: model(*x)), (models["text"], tokens, tokens), {}),
        "audio encoder": (
            jax.jit(lambda model, *x: encoders._every_second_state.__wrapped__(*nnx.split(model), *x)),
            (models["audio"], sound, put(encoding, 1, dtype=jnp.int32)),
            {},
        ),
    }
    return [
        Program(work, *made[work.name], weights[work.component], {name: weights[name] for name in work.beside})
        for work in sampling_work(configs, options, job)
    ]


def weight_bytes(model: nnx.Module) -> int:
    """Bytes of a placed model's parameters on one device."""
    return sum(shard_bytes(x) for x in tree.parameters(model).values())


def shard_bytes(x: jax.ShapeDtypeStruct) -> int:
    """Bytes of an array's part on one device."""
    shape = x.shape if x.sharding is None else x.sharding.shard_shape(x.shape)
    count = 1
    for length in shape:
        count *= length
    return count * jnp.dtype(x.dtype).itemsize


def _placed(component, config, dtype, layout: Layout) -> nnx.Module:
    """A model with its parameters' shapes and shardings in place of arrays."""
    model = component.abstract(config, dtype, layout=layout)
    sharding = layout.parameter_sharding(component.axes)
    return tree.with_parameters(
        model,
        {
            path: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding(path, x.shape))
            for path, x in tree.abstract_parameters(model).items()
        },
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


def _placed_conditions(made: ClipConditions, layout: Layout) -> ClipConditions:
    """The conditions of a clip where `prepare` leaves them."""

    def put(path, x):
        axes = _CONDITION_AXES[path[-1].name]
        spec = layout.fitting_spec(x.shape, (None,) * (x.ndim - len(axes)) + axes)
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(layout.mesh, spec))

    return jax.tree_util.tree_map_with_path(put, made)
