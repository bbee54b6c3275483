"""wav2vec2 speech encoder with all its hidden states.

Shapes: B batch, S samples at 16 kHz, T vectors (50 a second), C channels, D width.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from talkverse_jax.models.wav2vec2.axes import AXES
from talkverse_jax.models.wav2vec2.config import Wav2Vec2Config
from talkverse_jax.models.wav2vec2.encoder import Wav2Vec2Encoder
from talkverse_jax.models.wav2vec2.features import FeatureExtractor, FeatureProjection
from talkverse_jax.models.wav2vec2.moments import Moments
from talkverse_jax.sharding.layout import Layout


class Wav2Vec2(nnx.Module):
    """The encoder of Wav2Vec2ForCTC or Wav2Vec2ForPreTraining, without their heads."""

    def __init__(
        self,
        config: Wav2Vec2Config,
        *,
        rngs: nnx.Rngs,
        dtype=jnp.float32,
        param_dtype=jnp.float32,
        layout: Layout = Layout(),
    ):
        kwargs: dict[str, Any] = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.config = config
        self.layout = layout
        self.feature_extractor = FeatureExtractor(config, **kwargs)
        self.feature_projection = FeatureProjection(config, **kwargs)
        self.encoder = Wav2Vec2Encoder(config, **kwargs, layout=layout)

    def __call__(
        self, waveform: Float[Array, "B S"], samples: Int[Array, " B"] | None = None
    ) -> Float[Array, "B T states D"]:
        """All hidden states, float32: the input of the first layer ... the output after the final norm.

        Arguments as of `states`.
        """
        return jnp.stack(self.states(waveform, samples), axis=2)

    def states(
        self, waveform: Float[Array, "B S"], samples: Int[Array, " B"] | None = None
    ) -> tuple[Float[Array, "B T D"], ...]:
        """The hidden states one by one, for those who keep only a part of each.

        Args:
          waveform: normalised as the model was trained; zeros behind the sound where it is shorter than the array.
          samples: length of each sound. The first `config.frames(samples)` vectors are those of the sound
            alone, the others mean nothing. By default the whole array is sound.
        """
        samples = jnp.full(waveform.shape[:1], waveform.shape[1]) if samples is None else samples
        moments = self.moments(waveform, samples) if self.config.feat_extract_norm == "group" else None
        return self.hidden(self.features(waveform, moments), self.config.frames(samples))

    def moments(self, waveform: Float[Array, "B S"], samples: Int[Array, " B"]) -> Moments:
        """What `features` must know of a whole sound where `feat_extract_norm` is "group"."""
        moments = self.layout.gathered(self.feature_extractor, AXES).moments(waveform, samples)
        return jax.tree.map(lambda x: self.layout.constrain(x, *[None] * x.ndim), moments)

    def features(self, waveform: Float[Array, "B S"], moments: Moments | None = None) -> Float[Array, "B T C"]:
        """What the convolutions make of a sound, or of a part of the sound that has these moments."""
        return self.layout.gathered(self.feature_extractor, AXES)(waveform, moments)

    def hidden(self, features: Float[Array, "B T C"], frames: Int[Array, " B"]) -> tuple[Float[Array, "B T D"], ...]:
        """The hidden states, of the first `frames` features, at whatever rate they come."""
        projected = self.layout.gathered(self.feature_projection, AXES)(features)
        sound = jnp.arange(features.shape[1]) < frames[:, None]
        return self.encoder(jnp.where(sound[..., None], projected, 0), frames)
