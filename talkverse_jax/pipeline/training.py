"""What training asks of a family: the attribute `training` of its record.

    encoder = family.training.load_encoder(weights, settings, dtype=...)     # raw windows -> named arrays
    batch = family.training.to_batch(encoder.encode(raw), encoder.constants)  # named arrays -> what a loss takes
    losses, known = family.training.losses["flow_matching"](configs, settings, roi)(models, batch, draw)

Shapes: B samples.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key, Shaped, UInt

from talkverse_jax.data.prepared import PreparedBatch, SampleFormat
from talkverse_jax.data.raw import RawSample
from talkverse_jax.data.windows import Lengths
from talkverse_jax.diffusion.rollout import Clips
from talkverse_jax.models.wan.linear import Linear
from talkverse_jax.pipeline.decoders import DecoderName

FLOW_MATCHING = "flow_matching"  # the loss that every family has


class TrainingInputs(Protocol):
    """A batch: a NamedTuple of a family's own. All fields have the samples first, but for those that
    `SampleFormat.constants` names.

    Attributes:
      weight: of a sample in the loss; 0 where there is none.
      ids: epoch and sample number, of which everything random is a function.
    """

    @property
    def weight(self) -> Float[Array, " B"]: ...

    @property
    def ids(self) -> UInt[Array, "B 2"]: ...

    def _asdict(self) -> dict[str, Any]: ...

    def _replace(self, **fields: Any) -> Any: ...


class Loss(Protocol):
    """What one phase of training makes small."""

    def __call__(
        self, models: Mapping[str, Any], batch: Any, draw: Key[Array, " B"]
    ) -> tuple[Float[Array, " B"], dict[str, Shaped[Array, " B"]]]:
        """The loss of each sample, and what else is known of each, by name.

        Args:
          models: all networks, trained and frozen, by name.
          draw: a key for each sample, of which all that is random is a function.
        """
        ...


class SampleEncoder(Protocol):
    """Turns windows of videos into prepared samples, on the devices of this process alone.

    Attributes:
      constants: arrays that all samples share, by name.
    """

    @property
    def constants(self) -> Mapping[str, Shaped[np.ndarray, "..."]]: ...

    def encode(self, batch: RawSample) -> PreparedBatch:
        """A batch of windows of one size and kind; a slot without a sample (weight 0) holds finite values."""
        ...


@dataclasses.dataclass(frozen=True)
class Trainable:
    """The parameters of the trained network, by shell patterns of their paths.

    Attributes:
      own: what the family has and its base model lacks; always trained.
      minimal: what all strategies but `none` and `framepack` train besides.
      raised: those of the group `scaled`, which has a rate of its own.
      raised_of_all: the same where every parameter is trained.
      blocks: (config) -> how many blocks the network has.
      block: (path) -> the number of the block that a parameter is in; None outside of them.
      adapted: (network) -> the layers that LoRA adapts; all others it leaves alone.
    """

    own: tuple[str, ...]
    minimal: tuple[str, ...]
    raised: tuple[str, ...]
    raised_of_all: tuple[str, ...]
    blocks: Callable[[Any], int]
    block: Callable[[str], int | None]
    adapted: Callable[[nnx.Module], Iterable[Linear]]


class BatchShape(NamedTuple):
    """Of a batch.

    Attributes:
      samples: over all devices.
      frames: to be learnt of a window, in the video.
      height, width: in pixels.
      dtype: of latents and hidden states.
    """

    samples: int
    frames: int
    height: int
    width: int
    dtype: str = "bfloat16"


class PreviewRequest(NamedTuple):
    """A sample that is shown while training goes on: one clip.

    Attributes:
      guided: away from what is seen without its conditions; else only what the model says is shown.
      student_shift: of a student's steps, which re-noise and are never guided; None: it is no student.
      decoder: what shows it.
    """

    image: str
    audio: str
    prompt: str
    size_bucket: str
    frames: int
    steps: int
    seed: int
    guided: bool = True
    student_shift: float | None = None
    decoder: DecoderName = "full"


@dataclasses.dataclass(frozen=True)
class FamilyTraining:
    """How a family is trained. `configs` are those of all its components, `settings` its `TrainingSettings`.

    Attributes:
      component: which one is trained; losses find it by that name.
      trainable: its parameters.
      losses: by name: (configs, settings, masks) -> Loss, where `masks` asks for face and body to count more.
      loss_at: (configs, settings, masks, timestep) -> the Loss of flow matching at one timestep (an int32 array), with
        nothing left out; of samples that are held out.
      samples: how prepared samples are stored.
      wanted: (configs, settings) -> the recipe's values that training asks of prepared samples, by field, besides
        those that all families have.
      recipe: (configs, settings, values) -> what samples are made with: these values, and the family's own.
      lengths: (configs, settings, frames to be learnt, whether motion frames are a must) -> frames of a window.
      load_encoder: (weights, settings, dtype=, text_on_cpu=) -> SampleEncoder.
      to_batch: (stacked samples, constants) -> what its losses take.
      inputs_spec: (configs, settings, shape) -> the same, of shapes and dtypes alone.
      flops: (configs, settings, shape, trained blocks) -> floating-point operations of a batch, forward and backward.
      head_dim: (configs) -> the width of the trained network's attention heads.
      preview: (request, settings) -> the values of a job, by flag.
      clips: (configs, settings, frames of a window, frames of a clip) -> the windows as distillation rolls them out;
        None where it cannot.
    """

    component: str
    trainable: Trainable
    losses: Mapping[str, Callable[[Any, Any, bool], Loss]]
    loss_at: Callable[[Any, Any, bool, Any], Loss]
    samples: SampleFormat
    wanted: Callable[[Any, Any], dict[str, Any]]
    recipe: Callable[[Any, Any, Mapping[str, Any]], Any]
    lengths: Callable[[Any, Any, int, bool], Lengths]
    load_encoder: Callable[..., SampleEncoder]
    to_batch: Callable[[PreparedBatch, Mapping[str, Any]], Any]
    inputs_spec: Callable[[Any, Any, BatchShape], Any]
    flops: Callable[[Any, Any, BatchShape, int], float]
    head_dim: Callable[[Any], int]
    preview: Callable[[PreviewRequest, Any], dict[str, Any]]
    clips: Callable[[Any, Any, int, int], Clips] | None = None
