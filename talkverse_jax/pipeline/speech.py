"""Sound to the hidden states of a wav2vec2 that hears it at the video's rate: its features are thinned out before its
transformer, not after it.

Shapes: S samples at 16 kHz, T rows of 25 a second, D width.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32

from talkverse_jax.core.errors import UserError
from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.models.wav2vec2.component import PREPROCESSOR
from talkverse_jax.models.wav2vec2.features import BLOCK
from talkverse_jax.models.wav2vec2.model import Wav2Vec2
from talkverse_jax.models.wav2vec2.moments import Moments
from talkverse_jax.models.wav2vec2.rate import between, positions
from talkverse_jax.pipeline.encoders import SAMPLE_RATE, Scaling, normalising
from talkverse_jax.weights.json_table import read_table

ROWS = 10 * FPS  # rows are rounded up to these, so that few programs are compiled


def is_normalised(folder: Path) -> bool:
    """Whether the model of a component's folder was trained with sound of zero mean and unit variance.

    Raises:
      UserError: the folder does not tell.
    """
    return read_table(folder / PREPROCESSOR).get("do_normalize") is True


def speech_rows(samples: int) -> int:
    """How many rows a sound of so many samples has."""
    return int(samples / SAMPLE_RATE * FPS)


@dataclasses.dataclass(frozen=True)
class SpeechEncoder:
    """Sound to the outputs of all layers.

    Attributes:
      normalised: whether the model hears sound of zero mean and unit variance, or as it is (`is_normalised`).
    """

    model: Wav2Vec2
    normalised: bool = False

    def encode(self, waveform: Float[np.ndarray, " S"]) -> Float32[np.ndarray, "T layers D"]:
        """The outputs of the layers, without the first one's input, in host memory, of a sound in one pass.

        Args:
          waveform: 16 kHz mono.

        Raises:
          UserError: as of `measure` and `SpeechSound.encode`.
        """
        sound = self.measure(lambda: [waveform])
        return sound.encode(lambda start, stop: waveform[start:stop], 0, sound.rows)

    def measure(self, blocks: Callable[[], Iterable[Float[np.ndarray, " _"]]]) -> "SpeechSound":
        """What rows need to know of the whole sound: it is heard once, or twice where it is normalised.

        Args:
          blocks: called for the sound, 16 kHz mono in parts of any length.

        Raises:
          UserError: shorter than a row.
        """
        scaling = normalising(blocks())[1] if self.normalised else Scaling()
        config, put = self.model.config, self.model.layout.put
        kernel, stride = config.conv_kernel[0], config.conv_stride[0]
        step = BLOCK * config.hop
        length = step - stride + kernel
        program = nnx.split(self.model)
        total, samples = None, 0
        for stretch in _stretches(blocks(), step, length):
            samples += step if len(stretch) == length else len(stretch)
            heard = _padded(scaling(stretch), length)
            part = jax.device_get(sound_moments(*program, put(heard), put(np.array([len(stretch)])))).double()
            total = part if total is None else total.joined(part)
        least = max(-(-SAMPLE_RATE // FPS), config.field)
        if total is None or samples < least:
            milliseconds = 1000 * samples / SAMPLE_RATE
            raise UserError(f"audio: {milliseconds:.0f} ms long; give at least {1000 * least / SAMPLE_RATE:.0f} ms")
        return SpeechSound(self, samples, scaling, total)


@dataclasses.dataclass(frozen=True)
class SpeechSound:
    """A sound that was heard to its end, so that rows of it can be made of a part of it.

    Attributes:
      samples: its length.
      moments: of what the first convolution gives.
    """

    encoder: SpeechEncoder
    samples: int
    scaling: Scaling
    moments: Moments

    @property
    def rows(self) -> int:
        return speech_rows(self.samples)

    def encode(
        self, read: Callable[[int, int], Float[np.ndarray, " n"]], first: int, count: int
    ) -> Float32[np.ndarray, "n layers D"]:
        """So many rows from `first` on, or those to the end, as the transformer makes them of nothing else.

        Args:
          read: gives the samples from one to before another.

        Raises:
          UserError: what comes out is no numbers.
        """
        model, config = self.encoder.model, self.encoder.model.config
        wanted = np.arange(first, min(first + count, self.rows))
        index, share = positions(config.frames(self.samples), self.rows, wanted)
        start, stop = index[0] * config.hop, (index[-1] + 1) * config.hop + config.field
        waveform = self.scaling(read(int(start), min(int(stop), self.samples)))

        room = -(-count // ROWS) * ROWS
        beyond = (0, room - len(wanted))
        put = model.layout.put
        states = layer_outputs(
            *nnx.split(model),
            put(_padded(waveform, room * SAMPLE_RATE // FPS + 2 * config.hop + config.field)),
            jax.tree.map(lambda x: put(np.asarray(x, np.float32)), self.moments),
            put(np.pad(index - index[0], beyond).astype(np.int32)),
            put(np.pad(share, beyond)),
            put(np.array([len(wanted)])),
        )
        rows = np.asarray(states[0, : len(wanted)])
        if not np.isfinite(rows).all():
            raise UserError("audio: what the speech encoder makes of it is no numbers; convert its weights again")
        return rows


def _stretches(blocks: Iterable[Float[np.ndarray, " _"]], step: int, length: int) -> Iterator[Float[np.ndarray, " n"]]:
    """The sound in parts of a length, each `step` behind the one before; the last ones are shorter."""
    held = np.zeros(0, np.float32)
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) >= length:
            yield held[:length]
            held = held[step:]
    if len(held):
        yield held


def _padded(waveform: Float[np.ndarray, " n"], room: int) -> Float32[np.ndarray, "1 room"]:
    return np.pad(waveform, (0, room - len(waveform))).astype(np.float32)[None]


@functools.partial(jax.jit, static_argnums=0)
def sound_moments(graphdef: nnx.GraphDef, state: nnx.State, waveform, samples) -> Moments:
    return nnx.merge(graphdef, state).moments(waveform, samples)


@functools.partial(jax.jit, static_argnums=0)
def layer_outputs(graphdef: nnx.GraphDef, state: nnx.State, waveform, moments, index, share, rows) -> Array:
    """[1, T, layers, D]."""
    model = nnx.merge(graphdef, state)
    return jnp.stack(model.hidden(between(model.features(waveform, moments), index, share), rows)[1:], axis=2)
