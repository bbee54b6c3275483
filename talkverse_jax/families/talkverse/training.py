"""How TalkVerse is trained: what of it, on what, and by which loss (see pipeline/training.py).

Shapes: B samples, F latent frames of the target, M of the motion context, h w latent grid, C latent channels,
A audio width.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from talkverse_jax.data.batches import WindowShape
from talkverse_jax.data.prepared import FORMAT, PreparedBatch, SampleFormat, StoredArray
from talkverse_jax.data.windows import Lengths
from talkverse_jax.diffusion import loss as flow
from talkverse_jax.families.talkverse.batch import TrainingBatch, to_batch
from talkverse_jax.families.talkverse.components import ModelConfigs
from talkverse_jax.families.talkverse.flops import training_flops
from talkverse_jax.families.talkverse.model import TalkVerse
from talkverse_jax.families.talkverse.rollout import clips_of
from talkverse_jax.families.talkverse.sample_encoder import WindowEncoder
from talkverse_jax.families.talkverse.settings import TrainingSettings, WindowSettings
from talkverse_jax.models.wan.block import Block
from talkverse_jax.models.wan.linear import Linear
from talkverse_jax.pipeline.training import (
    FLOW_MATCHING,
    BatchShape,
    FamilyTraining,
    PreviewRequest,
    Trainable,
)

_COMPONENT = "dit"
_AUDIO = ("audio_encoder/*", "audio_injectors/*")
_PACKER = ("frame_packer/*",)


class Dropouts(NamedTuple):
    """Of each condition how often it is left out; or, of samples, whether it is."""

    text: Any = 0.1
    audio: Any = 0.1
    reference: Any = 0.1
    motion: Any = 0.1

    @classmethod
    def of(cls, settings: TrainingSettings) -> "Dropouts":
        return cls(
            text=settings.text_dropout_prob,
            audio=settings.audio_dropout_prob,
            reference=settings.img_dropout_prob,
            motion=settings.framepack_dropout_prob,
        )


@dataclasses.dataclass(frozen=True)
class FlowMatching:
    """The loss of the original's training.

    Attributes:
      roi: weigh face and body.
      draw_timestep: of a sample, by its key.
      temporal: see `sample_losses`.
    """

    dropouts: Dropouts = Dropouts()
    roi: bool = False
    draw_timestep: flow.Timestep = flow.uniform
    temporal: float = 0.0

    def __call__(
        self, models: Mapping[str, TalkVerse], batch: TrainingBatch, draw: Key[Array, " B"]
    ) -> tuple[Float[Array, " B"], dict[str, Array]]:
        drawn = flow.draw(draw, batch.target.shape[1:], self.dropouts, self.draw_timestep)
        return batch_losses(models[_COMPONENT], batch, drawn, self.roi, self.temporal), {"timestep": drawn.timestep}


def _flow_matching(configs: ModelConfigs, settings: TrainingSettings, roi: bool) -> FlowMatching:
    del configs
    timestep = flow.timesteps(settings.logit_normal, settings.timestep_shift)
    return FlowMatching(Dropouts.of(settings), roi, timestep, settings.temporal_loss)


def _at(configs: ModelConfigs, settings: TrainingSettings, roi: bool, timestep: Int[Array, ""]) -> FlowMatching:
    del configs, settings
    return FlowMatching(Dropouts(0, 0, 0, 0), roi, lambda _: timestep)


def batch_losses(
    model: TalkVerse, batch: TrainingBatch, draw: flow.Draw, roi: bool, temporal: float = 0.0
) -> Float[Array, " B"]:
    """The loss of each sample, given what is random about it."""
    drop: Dropouts = draw.drop
    text = jnp.where(drop.text[:, None, None], batch.null_text, batch.text)
    audio = _unless(drop.audio, batch.audio)
    reference, motion = _unless(drop.reference, batch.reference), _unless(drop.motion, batch.motion)
    constrain = lambda x: model.layout.constrain(x, "batch", *[None] * (x.ndim - 1))  # noqa: E731
    data, noise = constrain(batch.target.astype(jnp.float32)), constrain(draw.noise)
    conditions = model.prepare(text, audio, reference, motion)
    x = constrain(flow.noisy(data, noise, draw.timestep))
    velocity = model.velocity(x, draw.timestep.astype(jnp.float32), conditions)
    weights = flow.roi_weights(batch.face, batch.body) if roi else None
    return flow.sample_losses(velocity, data, noise, weights, temporal)


def _unless(drop: Bool[Array, " B"], x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    return jnp.where(drop.reshape(-1, *[1] * (x.ndim - 1)), 0, x)


def inputs_spec(configs: ModelConfigs, settings: Any, shape: BatchShape) -> TrainingBatch:
    """A batch of shapes and dtypes alone; no setting changes them."""
    del settings
    trunk = configs.dit.trunk
    of_sample = lambda *sizes, dtype: jax.ShapeDtypeStruct((shape.samples, *sizes), jnp.dtype(dtype))  # noqa: E731
    arrays = {
        name: of_sample(*known.shape, dtype=known.dtype)
        for name, known in _arrays(configs, shape.frames, shape.height, shape.width, shape.dtype).items()
    }
    samples: Any = PreparedBatch(arrays, of_sample(2, dtype="uint32"), (), of_sample(dtype="float32"))  # pyright: ignore[reportArgumentType]  # shapes in place of arrays
    null_text = jax.ShapeDtypeStruct((trunk.text_len, trunk.text_dim), jnp.dtype(shape.dtype))
    return to_batch(samples, {"null_text": null_text})


@dataclasses.dataclass(frozen=True)
class TalkVerseRecipe:
    """What prepared samples were made with; fields in the order in which meta.json has them.

    Attributes:
      vae, audio, text: hashes of the encoders' weights.
      size_bucket, num_frames, audio_alignment, seed, windows, shard_size: as the flags.
      motion_frames: before the frames to be learnt.
      dtype: of the latents and hidden states.
      roi: masks of face and body were made.
      channels, audio_layers, audio_dim, motion_latents, text_len: C, layers, A, M, text_len.
      samples: hash of the videos and what is known of them.
    """

    vae: str
    audio: str
    text: str
    size_bucket: str
    num_frames: int
    motion_frames: int
    audio_alignment: str
    dtype: str
    roi: bool
    channels: int
    audio_layers: int
    audio_dim: int
    motion_latents: int
    text_len: int
    seed: int
    windows: int
    shard_size: int
    samples: str
    format: int = FORMAT


def _lengths(configs: ModelConfigs, settings: TrainingSettings, frames: int, always_motion: bool) -> Lengths:
    return Lengths(frames, configs.dit.motion_frames, always_motion, strides=configs.vae.strides)


def _wanted(configs: ModelConfigs, settings: WindowSettings) -> dict[str, Any]:
    return {"motion_frames": configs.dit.motion_frames, "audio_alignment": settings.audio_alignment}


def _recipe(configs: ModelConfigs, settings: WindowSettings, values: Mapping[str, Any]) -> TalkVerseRecipe:
    dit = configs.dit
    return TalkVerseRecipe(
        **values,
        **_wanted(configs, settings),
        channels=configs.vae.z_dim,
        audio_layers=dit.audio_layers,
        audio_dim=dit.audio_dim,
        motion_latents=dit.motion_latent_frames,
        text_len=dit.trunk.text_len,
    )


def _stored(configs: ModelConfigs, recipe: TalkVerseRecipe, shape: WindowShape) -> dict[str, StoredArray]:
    return _arrays(configs, recipe.num_frames, shape.height, shape.width, recipe.dtype)


def _arrays(configs: ModelConfigs, frames: int, height: int, width: int, dtype: str) -> dict[str, StoredArray]:
    """The arrays of a sample in the order in which they are written."""
    dit, trunk, kind = configs.dit, configs.dit.trunk, jnp.dtype(dtype)
    count, *grid = _latent_sizes(configs, frames, height, width)
    channels = configs.vae.z_dim
    return {
        "target": StoredArray((count, *grid, channels), kind),
        "motion": StoredArray((dit.motion_latent_frames, *grid, channels), kind, "with motion"),
        "reference": StoredArray((1, *grid, channels), kind),
        "audio": StoredArray((frames, dit.audio_layers, dit.audio_dim), kind),
        "text": StoredArray((trunk.text_len, trunk.text_dim), kind, "filled rows"),
        "face": StoredArray((count, *grid), np.uint8),
        "body": StoredArray((count, *grid), np.uint8),
    }


def _latent_sizes(configs: ModelConfigs, frames: int, height: int, width: int) -> tuple[int, int, int]:
    """Latent frames, rows and columns of frames that follow others."""
    vae = configs.vae
    return frames // vae.time_stride, height // vae.space_stride, width // vae.space_stride


def _adapted(model: nnx.Module) -> Iterator[Linear]:
    for _, block in nnx.iter_graph(model):
        if isinstance(block, Block):
            yield from block.adaptable()


def _block(path: str) -> int | None:
    return int(path.split("/")[1]) if path.startswith("blocks/") else None


def _flops(configs: ModelConfigs, settings: Any, shape: BatchShape, trained_blocks: int) -> float:
    del settings  # it counts nothing of them
    sizes = _latent_sizes(configs, shape.frames, shape.height, shape.width)
    return shape.samples * training_flops(configs.dit, *sizes, trained_blocks=trained_blocks)


def _preview(request: PreviewRequest, settings: TrainingSettings) -> dict[str, Any]:
    return {
        "image": request.image,
        "audio": request.audio,
        "prompt": request.prompt,
        "size_bucket": request.size_bucket,
        "fit": "crop",  # as training samples
        "infer_frames": request.frames,
        "num_clip": 1,
        "sample_steps": request.steps,
        "audio_alignment": settings.audio_alignment,
        "base_seed": request.seed,
        "decoder": request.decoder,
        **({} if request.guided and request.student_shift is None else {"sample_guide_scale": 1.0}),
        **(
            {} if request.student_shift is None else {"sample_solver": "renoise", "sample_shift": request.student_shift}
        ),
    }


TRAINING = FamilyTraining(
    component=_COMPONENT,
    trainable=Trainable(
        own=(*_AUDIO, *_PACKER, "token_kind"),
        minimal=("time_embedding/*", "head/*"),
        raised=_PACKER,
        raised_of_all=_AUDIO,
        blocks=lambda config: config.trunk.num_layers,
        block=_block,
        adapted=_adapted,
    ),
    losses={FLOW_MATCHING: _flow_matching},
    loss_at=_at,
    samples=SampleFormat(
        encoders=("vae", "audio", "text"),
        constants=("null_text",),
        recipe_type=TalkVerseRecipe,
        arrays=_stored,
    ),
    wanted=_wanted,
    recipe=_recipe,
    lengths=_lengths,
    load_encoder=WindowEncoder.load,
    to_batch=to_batch,
    inputs_spec=inputs_spec,
    flops=_flops,
    head_dim=lambda configs: configs.dit.trunk.head_dim,
    preview=_preview,
    clips=clips_of,
)
