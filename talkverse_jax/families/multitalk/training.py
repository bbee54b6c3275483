"""How MultiTalk and InfiniteTalk are trained: what of them, on what, and by which loss (see pipeline/training.py).

The originals publish no trainer. This one makes of every window what a clip of it would be in sampling (clips.py), so
that the model learns what it will be asked:

    a first clip    The condition shows its first frame. MultiTalk makes that one anew, so it counts in the loss;
                    InfiniteTalk finds it clean.
    a later clip    MultiTalk: the condition shows the frames taken over, which lie under noise of the step's own level.
                    InfiniteTalk: it shows a picture from elsewhere in the video, and the frames taken over are clean.
                    Of neither do these frames count in the loss.

CLIP sees the last frame that the condition shows. The timestep is 1000 times the noise level, as in sampling. Guidance
takes away the text, the sound, or both, and never the picture, so that is what is left out: the caption becomes the
empty one, the sound becomes silence of one speaker without positions. A sample of one person, in a model of several, is
heard in that way too: alone.

Shapes: B samples, F latent frames, h w latent grid, C latent channels, S speakers, Q these and the background, A audio
width, I tokens of a picture, E their width.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from talkverse_jax.core.errors import UserError
from talkverse_jax.data.batches import WindowShape
from talkverse_jax.data.prepared import Recipe, SampleFormat, StoredArray
from talkverse_jax.data.windows import Lengths
from talkverse_jax.diffusion import loss as flow
from talkverse_jax.diffusion.flow import NUM_TRAIN_TIMESTEPS
from talkverse_jax.families.multitalk.batch import MultiTalkBatch, heard_by, held, shown, to_batch
from talkverse_jax.families.multitalk.block import SpeakingBlock
from talkverse_jax.families.multitalk.components import MultiTalkConfigs
from talkverse_jax.families.multitalk.flops import training_flops
from talkverse_jax.families.multitalk.model import MultiTalk
from talkverse_jax.families.multitalk.rollout import clips_of, taken_over_by
from talkverse_jax.families.multitalk.sample_encoder import MultiTalkEncoder
from talkverse_jax.families.multitalk.settings import TrainingSettings, WindowSettings, check_frames
from talkverse_jax.models.wan.linear import Linear
from talkverse_jax.pipeline.training import FLOW_MATCHING, BatchShape, FamilyTraining, PreviewRequest, Trainable

_COMPONENT = "dit"


class MultiTalkDropouts(NamedTuple):
    """How often something is left out; or, of samples, what is. `text` and `audio` count where no field before them
    holds, so that the three are drawn each on its own and exclude each other all the same."""

    both: Any = 0.0
    text: Any = 0.0
    audio: Any = 0.0

    @classmethod
    def of(cls, settings: TrainingSettings) -> "MultiTalkDropouts":
        """Those shares of all samples."""
        both, text, audio = settings.both_dropout_prob, settings.text_dropout_prob, settings.audio_dropout_prob
        return cls(both, _share(text, 1 - both), _share(audio, 1 - both - text))

    @property
    def no_text(self) -> Bool[Array, " B"]:
        """Of samples, whether the text is left out."""
        return self.both | self.text

    @property
    def no_audio(self) -> Bool[Array, " B"]:
        """Of samples, whether the sound is left out."""
        return self.both | (self.audio & ~self.text)


def _share(part: float, rest: float) -> float:
    return min(1.0, part / rest) if rest > 0 else 0.0


@dataclasses.dataclass(frozen=True)
class MultiTalkLoss:
    """Flow matching on the frames that a clip makes.

    Attributes:
      taken_over: latent frames that a later clip has of the one before.
      roi: weigh faces, bodies and the places of several speakers.
      draw_timestep: of a sample, by its key.
      temporal: see `sample_losses`.
    """

    taken_over: int
    dropouts: MultiTalkDropouts = MultiTalkDropouts()
    roi: bool = False
    draw_timestep: flow.Timestep = flow.uniform
    temporal: float = 0.0

    def __call__(
        self, models: Mapping[str, MultiTalk], batch: MultiTalkBatch, draw: Key[Array, " B"]
    ) -> tuple[Float[Array, " B"], dict[str, Array]]:
        drawn = flow.draw(draw, batch.latents.shape[1:], self.dropouts, self.draw_timestep)
        losses = batch_losses(models[_COMPONENT], batch, drawn, self.taken_over, self.roi, self.temporal)
        return losses, {"timestep": drawn.timestep}


def _flow_matching(configs: MultiTalkConfigs, settings: TrainingSettings, roi: bool) -> MultiTalkLoss:
    timestep, dropouts = flow.timesteps(settings.logit_normal, settings.timestep_shift), MultiTalkDropouts.of(settings)
    return MultiTalkLoss(taken_over_by(configs, settings), dropouts, roi, timestep, settings.temporal_loss)


def _at(configs: MultiTalkConfigs, settings: TrainingSettings, roi: bool, timestep: Int[Array, ""]) -> MultiTalkLoss:
    return MultiTalkLoss(taken_over_by(configs, settings), roi=roi, draw_timestep=lambda _: timestep)


def batch_losses(
    model: MultiTalk, batch: MultiTalkBatch, draw: flow.Draw, taken_over: int, roi: bool, temporal: float = 0.0
) -> Float[Array, " B"]:
    """The loss of each sample, given what is random about it.

    Args:
      taken_over: latent frames that a later clip has of the one before.
    """
    config, drop = model.config, draw.drop
    constrain = lambda x: model.layout.constrain(x, "batch", *[None] * (x.ndim - 1))  # noqa: E731
    data, noise = constrain(batch.latents.astype(jnp.float32)), constrain(draw.noise)
    still = held(batch, config, taken_over)
    text = jnp.where(drop.no_text[:, None, None], batch.null_text, batch.text)
    audio = jnp.where(drop.no_audio[:, None, None, None, None], 0, batch.audio)
    conditions = model.prepare(
        text,
        batch.image,
        shown(batch, config, taken_over),
        heard_by(audio, config, data.shape[1]),
        batch.places.astype(jnp.float32) if audio.shape[1] > 1 else None,
        (batch.alone[:, 0] > 0) | drop.no_audio,
    )
    x = flow.noisy(data, noise, draw.timestep)
    if config.recipe == "infinitetalk":
        x = jnp.where(still[:, :, None, None, None], data, x)
    velocity = model.velocity(constrain(x), NUM_TRAIN_TIMESTEPS * flow.noise_level(draw.timestep), conditions)
    weights = jnp.broadcast_to(1.0 - still[:, :, None, None], data.shape[:-1])
    weights = weights * _attention(batch) if roi else weights
    return flow.sample_losses(velocity, data, noise, weights, temporal)


def _attention(batch: MultiTalkBatch) -> Float[Array, "B F h w"]:
    """How much each place counts: faces and bodies, and of several speakers the place of each."""
    several = (batch.places.shape[1] > 2) & (batch.alone[:, :, None, None] == 0)
    speaking = batch.places[:, :-1].max(axis=1, keepdims=True) * several
    weights = flow.roi_weights(batch.face, jnp.maximum(batch.body, speaking))
    return jnp.concatenate([weights[:, :1], weights], axis=1)


def _arrays(configs: MultiTalkConfigs, speakers: int, frames: int, height: int, width: int, dtype: str):
    """The arrays of a sample in the order in which they are written."""
    dit, vae, clip, kind = configs.dit, configs.vae, configs.clip, jnp.dtype(dtype)
    grid = height // vae.space_stride, width // vae.space_stride
    later = frames // vae.time_stride
    return {
        "latents": StoredArray((1 + later, *grid, vae.z_dim), kind),
        "known": StoredArray((1 + later, *grid, vae.z_dim), kind),
        "image": StoredArray((clip.tokens, clip.dim), kind),
        "audio": StoredArray((speakers, frames, dit.audio_layers, dit.audio_dim), kind),
        "first": StoredArray((1,), np.uint8),
        "alone": StoredArray((1,), np.uint8),
        "places": StoredArray((speakers + 1, *grid), np.uint8),
        "text": StoredArray((dit.trunk.text_len, dit.trunk.text_dim), kind, "filled rows"),
        "face": StoredArray((later, *grid), np.uint8),
        "body": StoredArray((later, *grid), np.uint8),
    }


def inputs_spec(configs: MultiTalkConfigs, settings: TrainingSettings, shape: BatchShape) -> MultiTalkBatch:
    """A batch of shapes and dtypes alone."""
    arrays = _arrays(configs, settings.speakers, shape.frames, shape.height, shape.width, shape.dtype)
    of_batch = lambda known: jax.ShapeDtypeStruct((shape.samples, *known.shape), known.dtype)  # noqa: E731
    spec: Any = {name: of_batch(known) for name, known in arrays.items()}
    null_text: Any = jax.ShapeDtypeStruct(arrays["text"].shape, arrays["text"].dtype)
    weight, ids = (of_batch(StoredArray(*known)) for known in (((), np.float32), ((2,), np.uint32)))
    return MultiTalkBatch(**spec, null_text=null_text, weight=weight, ids=ids)  # pyright: ignore[reportArgumentType]  # shapes


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiTalkRecipe(Recipe):
    """What prepared samples were made with.

    Attributes:
      vae, clip, audio, text: hashes of the encoders' weights.
      clip_recipe: of the weights.
      motion_frame, first_clip_prob, speakers: as the flags.
    """

    vae: str
    clip: str
    audio: str
    text: str
    clip_recipe: str
    motion_frame: int
    first_clip_prob: float
    speakers: int


def _wanted(configs: MultiTalkConfigs, settings: WindowSettings) -> dict[str, Any]:
    return {
        "clip_recipe": configs.dit.recipe,
        "motion_frame": settings.motion_frames(configs.dit.recipe),
        "first_clip_prob": settings.first_clip_prob,
        "speakers": settings.speakers,
    }


def _recipe(configs: MultiTalkConfigs, settings: WindowSettings, values: Mapping[str, Any]) -> MultiTalkRecipe:
    return MultiTalkRecipe(**values, **_wanted(configs, settings))


def _stored(configs: MultiTalkConfigs, made: MultiTalkRecipe, shape: WindowShape) -> dict[str, StoredArray]:
    return _arrays(configs, made.speakers, made.num_frames, shape.height, shape.width, made.dtype)


def _lengths(configs: MultiTalkConfigs, settings: WindowSettings, frames: int, always_motion: bool) -> Lengths:
    """A window is a whole clip: one frame, and those of whole latent frames, whatever of it is known.

    Raises:
      UserError: nothing of it would be learnt, or what it takes over is no whole number of latent frames.
    """
    check_frames(settings, configs.dit)
    del always_motion  # no window is shorter
    known = settings.motion_frames(configs.dit.recipe)
    if known > frames:
        raise UserError(f"{known}: give fewer than --num_frames {frames}", field="motion_frame")
    return Lengths(frames, 1, True, strides=configs.vae.strides)


def _adapted(model: nnx.Module) -> Iterator[Linear]:
    """What blocks offer, but for the layers of sound, which are trained whole."""
    for _, block in nnx.iter_graph(model):
        if isinstance(block, SpeakingBlock):
            own = block.audio_cross_attn.q, block.audio_cross_attn.kv, block.audio_cross_attn.o
            yield from (layer for layer in block.adaptable() if not any(layer is each for each in own))


def _flops(configs: MultiTalkConfigs, settings: TrainingSettings, shape: BatchShape, trained_blocks: int) -> float:
    frames, h, w, _ = _arrays(configs, settings.speakers, *shape[1:])["latents"].shape
    tokens = configs.clip.tokens
    return shape.samples * training_flops(
        configs.dit, frames, h, w, image=tokens, speakers=settings.speakers, trained_blocks=trained_blocks
    )


def _preview(request: PreviewRequest, settings: TrainingSettings) -> dict[str, Any]:
    guided, student = request.guided and request.student_shift is None, {}
    scales = {} if guided else {"sample_text_guide_scale": 1.0, "sample_audio_guide_scale": 1.0}
    if request.student_shift is not None:
        student = {"sample_solver": "renoise", "sample_shift": request.student_shift}
    return {
        "image": request.image,
        "audio": [request.audio],
        "prompt": request.prompt,
        "size_bucket": request.size_bucket,
        "frame_num": 1 + request.frames,
        "mode": "clip",
        "sample_steps": request.steps,
        "base_seed": request.seed,
        "decoder": request.decoder,
        **scales,
        **student,
    }


TRAINING = FamilyTraining(
    component=_COMPONENT,
    trainable=Trainable(
        own=("audio_projector/*", "*/audio_cross_attn/*", "*/norm_x/*"),
        minimal=("time_embedding/*", "head/*"),
        raised=(),
        raised_of_all=(),
        blocks=lambda config: config.trunk.num_layers,
        block=lambda path: int(path.split("/")[1]) if path.startswith("blocks/") else None,
        adapted=_adapted,
    ),
    losses={FLOW_MATCHING: _flow_matching},
    loss_at=_at,
    samples=SampleFormat(
        encoders=("vae", "clip", "audio", "text"),
        constants=("null_text",),
        recipe_type=MultiTalkRecipe,
        arrays=_stored,
    ),
    wanted=_wanted,
    recipe=_recipe,
    lengths=_lengths,
    load_encoder=MultiTalkEncoder.load,
    to_batch=to_batch,
    inputs_spec=inputs_spec,
    flops=_flops,
    head_dim=lambda configs: configs.dit.trunk.head_dim,
    preview=_preview,
    clips=clips_of,
)
