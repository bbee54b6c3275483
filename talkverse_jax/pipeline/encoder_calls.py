"""What a run calls of the encoders of `encoders.py` and `speech.py`, for each length that they round up to, and of
CLIP."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.models.clip.model import ClipVision, embedding_call
from talkverse_jax.models.clip.model import block_call as picture_block_call
from talkverse_jax.models.umt5.model import UMT5Encoder, block_call, table_call
from talkverse_jax.models.wav2vec2.features import BLOCK
from talkverse_jax.models.wav2vec2.model import Wav2Vec2
from talkverse_jax.models.wav2vec2.moments import Moments
from talkverse_jax.pipeline.encoders import SAMPLE_RATE, SAMPLES, TOKENS, every_second_state
from talkverse_jax.pipeline.model_work import SOUND_SECONDS
from talkverse_jax.pipeline.programs import Call, array, put_array
from talkverse_jax.pipeline.speech import ROWS, layer_outputs, sound_moments

Made = dict[str, Callable[[], Call]]


def text_calls(model: UMT5Encoder, prompts: int, text_len: int) -> Made:
    """The table and a block, which is run for all; for prompts of every length.

    Args:
      model: a placed one.
      text_len: tokens at most.
    """
    found: Made = {}
    for tokens in sorted({min(text_len, rows) for rows in range(TOKENS, text_len + TOKENS, TOKENS)}):
        ids = put_array(model.layout, prompts, tokens, dtype=jnp.int32)
        mask = put_array(model.layout, prompts, tokens, dtype=bool)
        stream = array(model.layout, prompts, tokens, model.config.dim)
        found[f"text table, {tokens} tokens"] = lambda ids=ids: Call(*table_call(model, ids))
        found[f"text block, {tokens} tokens"] = lambda x=stream, mask=mask: Call(*block_call(model, x, mask))
    return found


def whole_text(model: UMT5Encoder, prompts: int, text_len: int) -> Callable[[], Call]:
    """All of the text encoder as one program, which tells what it costs; no run calls it."""
    tokens = array(model.layout, prompts, text_len, dtype=jnp.int32)
    return lambda: Call(jax.jit(lambda model, *x: model(*x)), (model, tokens, tokens))


def sound_calls(model: Wav2Vec2) -> Made:
    """The audio encoder for sounds of up to a minute; a placed model."""

    def call(samples: int) -> Call:
        sound = put_array(model.layout, 1, samples), put_array(model.layout, 1, dtype=jnp.int32)
        return Call(every_second_state, (*nnx.split(model), *sound))

    longest = SOUND_SECONDS * SAMPLE_RATE
    lengths = range(SAMPLES, longest, SAMPLES)
    shorter = {f"audio encoder, {samples // SAMPLE_RATE} s": partial(call, samples) for samples in lengths}
    return shorter | {"audio encoder": partial(call, longest)}


def speech_calls(model: Wav2Vec2) -> Made:
    """The encoder of `SpeechEncoder`, for sounds of up to a minute; a placed model."""
    config, put = model.config, partial(put_array, model.layout)

    def moments() -> Call:
        kernel, stride = config.conv_kernel[0], config.conv_stride[0]
        stretch = put(1, BLOCK * config.hop - stride + kernel), put(1, dtype=jnp.int32)
        return Call(sound_moments, (*nnx.split(model), *stretch))

    def call(rows: int) -> Call:
        sound = put(1, rows * SAMPLE_RATE // FPS + 2 * config.hop + config.field)
        known = Moments(put(1), *[put(1, config.conv_dim[0])] * 2)
        places = put(rows, dtype=jnp.int32), put(rows), put(1, dtype=jnp.int32)
        return Call(layer_outputs, (*nnx.split(model), sound, known, *places))

    longest = SOUND_SECONDS * FPS
    shorter = {f"audio encoder, {rows // FPS} s": partial(call, rows) for rows in range(ROWS, longest, ROWS)}
    return {"audio moments": moments, **shorter, "audio encoder": partial(call, longest)}


def picture_calls(model: ClipVision, size: tuple[int, int]) -> Made:
    """The embedding of a picture of a size (H, W), and a block, which is run for all."""
    picture = put_array(model.layout, 1, *size, 3)
    tokens = array(model.layout, 1, model.config.tokens, model.config.dim)
    return {
        "picture embedding": lambda: Call(*embedding_call(model, picture)),
        "picture block": lambda: Call(*picture_block_call(model, tokens)),
    }


def whole_picture(model: ClipVision, size: tuple[int, int]) -> Callable[[], Call]:
    """All of CLIP as one program, which tells what it costs; no run calls it."""
    picture = array(model.layout, 1, *size, 3)
    return lambda: Call(jax.jit(lambda model, x: model(x)), (model, picture))
