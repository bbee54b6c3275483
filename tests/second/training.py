"""How the second family is trained: windows whose first frames are known, the loss on the others.

Shapes: B samples, T frames, F latent frames, h w latent grid, C latent channels, S sounds, A audio width, E of a look.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt

from talkverse_jax.data.batches import WindowShape
from talkverse_jax.data.prepared import PreparedBatch, Recipe, SampleFormat, StoredArray
from talkverse_jax.data.raw import RawSample
from talkverse_jax.data.windows import Lengths
from talkverse_jax.diffusion import loss as flow
from talkverse_jax.media.fit import to_unit
from talkverse_jax.models.wan.block import Block
from talkverse_jax.models.wan.flops import block_flops, block_layers, ends_flops
from talkverse_jax.models.wan.linear import Linear
from talkverse_jax.pipeline.encoders import AudioEncoder, TextEncoder, load_tokenizer
from talkverse_jax.pipeline.training import FLOW_MATCHING, BatchShape, FamilyTraining, PreviewRequest, Trainable
from talkverse_jax.weights import store
from tests.second.components import COMPONENTS, Configs
from tests.second.pipeline import heard
from tests.second.settings import TrainingSettings, of_person


class Batch(NamedTuple):
    latents: Float[Array, "B F h w C"]
    look: Float[Array, "B tokens E"]
    sounds: Float[Array, "B F S A"]
    text: Float[Array, "B text_len D"]
    null_text: Float[Array, "text_len D"]
    weight: Float[Array, " B"]
    ids: UInt[Array, "B 2"]


def to_batch(samples: PreparedBatch, constants: Mapping[str, Any]) -> Batch:
    return Batch(**samples.arrays, **constants, weight=samples.weights, ids=samples.ids)


class Dropouts(NamedTuple):
    words: Any
    sounds: Any


@dataclasses.dataclass(frozen=True)
class LaterFrames:
    """Flow matching where frames are not known."""

    settings: TrainingSettings
    known: int  # latent frames
    draw_timestep: flow.Timestep = flow.uniform

    def __call__(self, models, batch: Batch, draw):
        drawn = flow.draw(draw, batch.latents.shape[1:], Dropouts(*[self.settings.dropout] * 2), self.draw_timestep)
        data = batch.latents.astype(jnp.float32)
        known = jnp.arange(data.shape[1])[:, None, None, None] < self.known
        text = jnp.where(drawn.drop.words[:, None, None], batch.null_text, batch.text)
        sounds = jnp.where(drawn.drop.sounds[:, None, None, None], 0, batch.sounds)
        conditions = models["net"].prepare(text, sounds, batch.look, jnp.where(known, data, 0))
        x = flow.noisy(data, drawn.noise, drawn.timestep)
        velocity = models["net"].velocity(x, drawn.timestep.astype(jnp.float32), conditions)
        weights = jnp.broadcast_to(1.0 - known[..., 0], data.shape[:-1])
        return flow.sample_losses(velocity, data, drawn.noise, weights), {"timestep": drawn.timestep}


class Encoder:
    """Windows of videos; their second voice is silent."""

    def __init__(self, weights: str, settings, *, dtype: str = "bfloat16", text_on_cpu: bool = False):
        load = {
            name: store.load_module(weights, COMPONENTS[name], dtype="float32") for name in COMPONENTS if name != "net"
        }
        self._pixels, self._eye, self._ears = load["pixels"], load["eye"], AudioEncoder(load["ears"])
        self._words = TextEncoder(load["words"], load_tokenizer(store.folder_of(weights, "words") / "tokenizer"))
        self._rows = store.load_config(weights, COMPONENTS["net"]).trunk.text_len
        self._overlap, self._dtype = settings.overlap, jnp.dtype(dtype)
        self.constants = {"null_text": self._text([""])[0]}

    def encode(self, batch: RawSample) -> PreparedBatch:
        video = to_unit(np.asarray(batch.video))
        latents = np.asarray(jax.jit(type(self._pixels).encode)(self._pixels, video))
        rows = np.asarray(self._ears.encode_windows(batch.waveform))
        voice = np.stack([heard(each, 0, latents.shape[1], self._pixels.config.time_stride) for each in rows])
        arrays = {
            "latents": latents,
            "look": self._eye(video[:, self._overlap - 1]),
            "sounds": np.stack([voice, np.zeros_like(voice)], axis=2),
            "text": self._text(list(batch.caption)),
        }
        arrays = {name: np.asarray(array).astype(self._dtype) for name, array in arrays.items()}
        names: Any = batch.name
        return PreparedBatch(arrays, np.asarray(batch.id, np.uint32), names, np.asarray(batch.weight, np.float32))

    def _text(self, captions: list[str]) -> np.ndarray:
        return np.asarray(self._words.encode(captions, self._rows).states).astype(self._dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SecondRecipe(Recipe):
    pixels: str
    ears: str
    words: str
    eye: str
    overlap: int


def arrays(configs: Configs, frames: int, height: int, width: int, dtype: str) -> dict[str, StoredArray]:
    net, vae, kind = configs.net, configs.pixels, jnp.dtype(dtype)
    latents = vae.latent_frames(frames)
    shapes = {
        "latents": (latents, height // vae.space_stride, width // vae.space_stride, vae.z_dim),
        "look": (configs.eye.tokens, net.look_dim),
        "sounds": (latents, net.sounds, net.audio_dim),
        "text": (net.trunk.text_len, net.trunk.text_dim),
    }
    return {name: StoredArray(shape, kind) for name, shape in shapes.items()}


def stored(configs: Configs, made: SecondRecipe, shape: WindowShape) -> dict[str, StoredArray]:
    return arrays(configs, made.overlap + made.num_frames, shape.height, shape.width, made.dtype)


def inputs_spec(configs: Configs, settings: TrainingSettings, shape: BatchShape) -> Batch:
    known = arrays(configs, settings.overlap + shape.frames, shape.height, shape.width, shape.dtype)
    spec: Any = {name: jax.ShapeDtypeStruct((shape.samples, *x.shape), x.dtype) for name, x in known.items()}
    rest = (jax.ShapeDtypeStruct((shape.samples, *more), kind) for more, kind in (((), "float32"), ((2,), "uint32")))
    null_text = jax.ShapeDtypeStruct(known["text"].shape, known["text"].dtype)
    return Batch(*spec.values(), null_text, *rest)  # pyright: ignore[reportArgumentType]  # shapes for arrays


def flops(configs: Configs, settings: TrainingSettings, shape: BatchShape, trained_blocks: int) -> float:
    """Three times forward, less the gradients of blocks that are not trained."""
    trunk = configs.net.trunk
    frames, h, w, _ = arrays(configs, settings.overlap + shape.frames, shape.height, shape.width, shape.dtype)[
        "latents"
    ].shape
    tokens = frames * (h // 2) * (w // 2)
    block = block_flops(trunk, tokens, configs.eye.tokens + trunk.text_len)
    left = (trunk.num_layers - trained_blocks) * block_layers(trunk, tokens)
    return shape.samples * (3 * (trunk.num_layers * block + ends_flops(trunk, tokens)) - left)


def adapted(model: nnx.Module) -> Iterator[Linear]:
    """All that blocks offer, but for what brings the context back."""
    for _, block in nnx.iter_graph(model):
        if isinstance(block, Block):
            yield from (layer for layer in block.adaptable() if layer is not block.cross_attn.o)


def preview(request: PreviewRequest, settings: TrainingSettings) -> dict[str, Any]:
    person = of_person(request.image, request.audio, request.prompt)
    scales = {} if request.guided else {"text_scale": 1.0, "sound_scale": 1.0}
    return person | {"steps": request.steps, "base_seed": request.seed} | scales


TRAINING = FamilyTraining(
    component="net",
    trainable=Trainable(
        own=("sound/*", "look/*"),
        minimal=("head/*",),
        raised=(),
        raised_of_all=(),
        blocks=lambda config: config.trunk.num_layers,
        block=lambda path: int(path.split("/")[1]) if path.startswith("blocks/") else None,
        adapted=adapted,
    ),
    losses={
        FLOW_MATCHING: lambda configs, settings, roi: LaterFrames(
            settings, configs.pixels.latent_frames(settings.overlap)
        )
    },
    loss_at=lambda configs, settings, roi, timestep: LaterFrames(
        dataclasses.replace(settings, dropout=0.0),
        configs.pixels.latent_frames(settings.overlap),
        lambda _: timestep,
    ),
    samples=SampleFormat(
        encoders=("pixels", "ears", "words", "eye"),
        constants=("null_text",),
        recipe_type=SecondRecipe,
        arrays=stored,
    ),
    wanted=lambda configs, settings: {"overlap": settings.overlap},
    recipe=lambda configs, settings, values: SecondRecipe(**values, overlap=settings.overlap),
    lengths=lambda configs, settings, frames, always: Lengths(
        frames, settings.overlap, True, strides=configs.pixels.strides
    ),
    load_encoder=Encoder,
    to_batch=to_batch,
    inputs_spec=inputs_spec,
    flops=flops,
    head_dim=lambda configs: configs.net.trunk.head_dim,
    preview=preview,
)
