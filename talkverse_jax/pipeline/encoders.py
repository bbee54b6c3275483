"""Prompts and sound to what the video model is conditioned on.

Shapes: B prompts, T rows of 25 a second, D width.
"""

import dataclasses
import functools
import html
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import ftfy
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32, Int
from tokenizers import Tokenizer

from talkverse_jax.core.errors import UserError
from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.models.umt5.model import UMT5Encoder
from talkverse_jax.models.umt5.prompts import LONGEST_PROMPT
from talkverse_jax.models.wav2vec2.model import Wav2Vec2

SAMPLE_RATE = 16_000

# Lengths are rounded up to these, so that few programs are compiled; padding changes no result.
TOKENS = 128
SAMPLES = 10 * SAMPLE_RATE


class EncodedText(NamedTuple):
    """Text hidden states.

    Attributes:
      states: float32, zero behind each prompt's end.
      lengths: tokens of each prompt, the end mark included.
      tokens: the same before the cut; a prompt with `tokens > lengths` lost its end.
    """

    states: Float[Array, "B text_len D"]
    lengths: Int[np.ndarray, " B"]
    tokens: Int[np.ndarray, " B"]


@dataclasses.dataclass(frozen=True)
class TextEncoder:
    """Prompts to hidden states.

    Raises:
      UserError: the tokenizer has more tokens than the model.
    """

    model: UMT5Encoder
    tokenizer: Tokenizer

    def __post_init__(self):
        known, needed = self.model.config.vocab, self.tokenizer.get_vocab_size()
        if needed > known:
            raise UserError(
                f"tokenizer.json: {needed} tokens, the text encoder knows {known}; use the one it came with"
            )

    def encode(self, prompts: list[str], text_len: int) -> EncodedText:
        """Clean, tokenize and encode; a prompt of more than `text_len` tokens is cut.

        Of a caption longer than any prompt may be, the first `LONGEST_PROMPT` characters are read: there are captions
        of 100 KB in data sets, and no more than these could become tokens that are kept.

        Args:
          text_len: rows of the result (512 for TalkVerse).
        """
        special = self.tokenizer.num_special_tokens_to_add(is_pair=False)
        bodies = [self.tokenizer.encode(clean_prompt(p[:LONGEST_PROMPT]), add_special_tokens=False) for p in prompts]
        tokens = np.array([len(body) + special for body in bodies])
        for body in bodies:
            body.truncate(text_len - special)
        sequences = [self.tokenizer.post_process(body).ids for body in bodies]
        lengths = np.array([len(sequence) for sequence in sequences])

        rows = min(text_len, -(-lengths.max() // TOKENS) * TOKENS)
        mask = np.arange(rows) < lengths[:, None]
        ids = np.zeros(mask.shape, np.int32)
        ids[mask] = np.concatenate(sequences)
        put = self.model.layout.put
        states = self.model(put(ids), put(mask.astype(np.int32)))
        states = jnp.where(mask[..., None], states, 0)
        return EncodedText(jnp.pad(states, ((0, 0), (0, text_len - rows), (0, 0))), lengths, tokens)


def clean_prompt(text: str) -> str:
    """Broken encodings mended, HTML entities resolved (also doubly escaped ones), white space collapsed."""
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer of a folder like upstream's `google/umt5-xxl`.

    `tokenizer.json` is taken as it is. transformers 5 would take its vocabulary and build a T5 tokenizer
    around it, without the file's own rules for white space and for bytes.

    Raises:
      UserError: `tokenizer.json` is missing or no tokenizer.
    """
    path = Path(folder) / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file; copy the folder google/umt5-xxl of Wan-AI/Wan2.2-TI2V-5B")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower
        raise UserError(f"{path}: not a tokenizer ({error}); copy the file again") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@dataclasses.dataclass(frozen=True)
class Scaling:
    """What is taken off a whole sound's samples, and what the rest is multiplied by; by default nothing, and 1."""

    mean: float = 0.0
    factor: float = 1.0

    def __call__(self, waveform: Float[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
        return ((waveform.astype(np.float64) - self.mean) * self.factor).astype(np.float32)


def normalising(blocks: Iterable[Float[np.ndarray, " _"]]) -> tuple[int, Scaling]:
    """How many samples a sound has, and what brings it to zero mean and unit variance, as `normalise`."""
    count, total, squares = 0, 0.0, 0.0
    for block in blocks:
        count += len(block)
        total += float(block.sum(dtype=np.float64))
        squares += float(np.square(block, dtype=np.float64).sum())
    mean = total / max(1, count)
    return count, Scaling(mean, float(1 / np.sqrt(squares / max(1, count) - mean**2 + 1e-7)))


@dataclasses.dataclass(frozen=True)
class AudioEncoder:
    """Sound to the hidden states of all layers."""

    model: Wav2Vec2

    def encode(self, waveform: Float[np.ndarray, " samples"]) -> Float[np.ndarray, "T layers D"]:
        """Hidden states at 25 rows a second (every second one), float32, in host memory.

        Args:
          waveform: 16 kHz mono of any length; normalised here, over its whole length.

        Raises:
          UserError: shorter than one hidden state sees (25 ms).
        """
        samples, config = len(waveform), self.model.config
        if samples < config.field:
            milliseconds = 1000 * samples / SAMPLE_RATE
            raise UserError(
                f"audio: {milliseconds:.0f} ms long; give at least {1000 * config.field / SAMPLE_RATE:.0f} ms"
            )
        return self.encode_normalised(normalise(waveform), -(-samples // SAMPLES) * SAMPLES)

    def encode_normalised(self, waveform: Float[np.ndarray, " samples"], room: int) -> Float[np.ndarray, "T layers D"]:
        """As `encode`, of a sound that is normalised already, by the program for sounds of up to `room` samples."""
        samples, put = len(waveform), self.model.layout.put
        padded = np.zeros((1, room), np.float32)
        padded[0, :samples] = waveform
        states = every_second_state(*nnx.split(self.model), put(padded), put(np.array([samples])))
        return np.asarray(states[0, : self.model.config.rows(samples)])

    def measure(self, blocks: Callable[[], Iterable[Float[np.ndarray, " _"]]]) -> "MeasuredSound":
        """What rows need to know of the whole sound.

        Args:
          blocks: called for the sound, 16 kHz mono in parts of any length.
        """
        return MeasuredSound(self, *normalising(blocks()))

    def encode_windows(self, waveforms: Float[np.ndarray, "B samples"]) -> Float[Array, "B T layers D"]:
        """As `encode`, of sounds of one length, each normalised on its own; one program for each length."""
        sounds = np.stack([normalise(waveform) for waveform in waveforms])
        put = self.model.layout.put
        lengths = np.full(len(sounds), sounds.shape[1])
        return every_second_state(*nnx.split(self.model), put(sounds), put(lengths))


@dataclasses.dataclass(frozen=True)
class MeasuredSound:
    """A sound that was heard to its end, so that rows of it can be made of a part of it.

    Attributes:
      samples: its length.
    """

    encoder: AudioEncoder
    samples: int
    scaling: Scaling

    @property
    def rows(self) -> int:
        return self.encoder.model.config.rows(self.samples)

    def encode(
        self, read: Callable[[int, int], Float[np.ndarray, " n"]], first: int, count: int
    ) -> Float[np.ndarray, "n layers D"]:
        """So many rows from `first` on, or those to the end, as the model makes them of nothing else.

        Args:
          read: gives the samples from one to before another.
        """
        start, room = (rows * SAMPLE_RATE // FPS for rows in (first, count))
        waveform = read(start, min(start + room, self.samples))
        return self.encoder.encode_normalised(self.scaling(waveform), room)


def normalise(waveform: Float[np.ndarray, " samples"]) -> Float[np.ndarray, " samples"]:
    """Zero mean and unit (population) variance over the whole sound; silence stays silent."""
    return (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)


@functools.partial(jax.jit, static_argnums=0)
def every_second_state(graphdef: nnx.GraphDef, state: nnx.State, waveform, samples):
    """[B, T, layers, D]; thinned out before they are stacked, which halves the memory of long sound."""
    states = nnx.merge(graphdef, state).states(waveform, samples)
    return jnp.stack([x[:, ::2] for x in states], axis=2)
