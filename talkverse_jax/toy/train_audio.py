"""Teaches the toy wav2vec2 to hear: `python -m talkverse_jax.toy.train_audio --model configs/model_toy.toml ...`.

Each of its hidden states is to tell how loud some bands of the sound are, by a linear layer of its own that is thrown
away at the end. It hears voices of the toy world, faster and slower ones too, and sounds of no kind (`any_sound`): what
it learns is about sound, not about voices. Drawn at random it tells voices of another kind badly (docs/toy.md).
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Float32
from tqdm import trange

from talkverse_jax.cli.command import run_command
from talkverse_jax.cli.flags import parse
from talkverse_jax.core import compile_cache, presets, tree
from talkverse_jax.core.options import check_bounds, option
from talkverse_jax.core.paths import new_folder
from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.models.wav2vec2.config import Wav2Vec2Config
from talkverse_jax.models.wav2vec2.model import Wav2Vec2
from talkverse_jax.pipeline.encoders import normalise
from talkverse_jax.toy.speech import VOWELS, overlapped, speak
from talkverse_jax.toy.timbre import RATE
from talkverse_jax.weights.published_files import write_safetensors
from talkverse_jax.weights.rule import torch_tensor

_SECONDS = 2.0  # of sound at once
_VOICES, _SENTENCE = 200, 8.0  # sentences that pieces are cut of, seconds of each
_FASTEST = 1.5  # factor by which a voice is faster or slower
_EDGES = 80.0, 7500.0  # Hz, of all bands together
_BANDS = 20  # of equal width in the logarithm; one more, of vowels, counts as much as all of them
_STEVENS = 0.6  # loudness goes with this power of the pressure
_LEAST = 0.02  # of a loudness: below, nothing is heard
_OFFSET = 1.0  # standard deviation of the convolutions' biases: the norms behind them would throw loudness away
_WARMUP = 50  # updates

Sound = Float32[np.ndarray, " samples"]
Params = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class AudioOptions:
    """One run of `talkverse_jax.toy.train_audio`."""

    model: str = option("TOML file of sizes; its table [audio]", group="input", metavar="FILE")
    output: str = option("the trained tensors, as published", group="output", metavar="FILE")
    steps: int = option("updates", group="training", metavar="N", default=1200, least=1)
    batch_size: int = option("pieces of sound in an update", group="training", metavar="N", default=8, least=2)
    learning_rate: float = option("the highest; falls to 0 as a cosine", group="training", metavar="X", default=2e-3)
    seed: int = option("of everything random", group="training", metavar="N", default=0, least=0)

    def __post_init__(self):
        check_bounds(self)


def any_sound(rng: np.random.Generator, samples: int) -> Sound:
    """Noise or pulses of a larynx, of which bands become louder and softer by chance, with pauses."""
    window, hop = 512, 128
    count = samples // hop + 5
    if rng.random() < 0.5:
        source = rng.standard_normal(count * hop + window)
    else:
        pitch = np.exp(rng.uniform(np.log(70), np.log(350))) * np.exp(0.2 * _curve(rng, count * hop + window, 4000))
        source = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0.0) + 1e-3 * rng.standard_normal(len(pitch))
    pieces = np.lib.stride_tricks.sliding_window_view(source, window)[::hop][:count]
    gain = np.stack([_curve(rng, window // 2 + 1, 32) for _ in range(count // 6 + 2)])
    at = np.linspace(0, len(gain) - 1.001, count)
    below, share = at.astype(int), (at % 1)[:, None]
    gain = gain[below] * (1 - share) + gain[below + 1] * share + 2 * _curve(rng, count, 12)[:, None]
    gain -= rng.uniform(0, 4) * np.linspace(0, 1, gain.shape[1])  # duller
    gain[_curve(rng, count, 24) > rng.uniform(0.3, 2)] -= 6
    shaped = np.fft.irfft(np.fft.rfft(pieces * np.hanning(window)) * np.exp(1.5 * gain))
    sound = overlapped(shaped, hop)[window:][:samples]
    return (sound / max(np.abs(sound).max(), 1e-9)).astype(np.float32)


def _curve(rng: np.random.Generator, count: int, every: int) -> Float[np.ndarray, " count"]:
    """A smooth curve of mean 0 and deviation 1 with a turn about `every` values."""
    knots = rng.standard_normal(count // every + 3)
    return np.interp(np.arange(count) / every, np.arange(len(knots)), knots)


def heard(sounds: Float[Array, "B samples"], config: Wav2Vec2Config) -> Float[Array, "B T bands"]:
    """How loud the bands are where each hidden state listens, the vowels' band first.

    Args:
      sounds: mean 0, variance 1.
    """
    window, count = 640, config.frames(sounds.shape[1])
    begin = np.arange(count) * config.hop + (config.field - window) // 2 + window
    padded = jnp.pad(sounds, ((0, 0), (window, window)))
    pieces = padded[:, begin[:, None] + np.arange(window)] * np.hanning(window)
    power = jnp.square(jnp.abs(jnp.fft.rfft(pieces))) / window
    hertz = np.fft.rfftfreq(window, 1 / RATE)
    edges = np.geomspace(*_EDGES, _BANDS + 1)
    edges = [VOWELS, *zip(edges, edges[1:])]
    chosen = np.stack([(hertz >= low) & (hertz <= max(high, low + RATE / window)) for low, high in edges], axis=1)
    return (power @ (chosen / window) + _LEAST ** (2 / _STEVENS)) ** (_STEVENS / 2)


class _Sounds:
    def __init__(self, seed: int):
        draws = np.random.SeedSequence(seed).spawn(_VOICES)
        self.voices = [speak(np.random.default_rng(draw), _SENTENCE).sound for draw in draws]

    def batch(self, rng: np.random.Generator, count: int) -> Float32[np.ndarray, "B samples"]:
        """Every other one a voice."""
        samples = round(_SECONDS * RATE)
        sounds = [self.voice(rng, samples) if n % 2 else any_sound(rng, samples) for n in range(count)]
        return np.stack([normalise(x) for x in sounds]).astype(np.float32)

    def voice(self, rng: np.random.Generator, samples: int) -> Sound:
        sound = self.voices[rng.integers(len(self.voices))]
        speed = _FASTEST ** rng.uniform(-1, 1)
        at = rng.uniform(0, len(sound) - samples * speed - 1) + speed * np.arange(samples)
        return np.interp(at, np.arange(len(sound)), sound).astype(np.float32)


def _begin(config: Wav2Vec2Config, key: jax.Array) -> Params:
    """Drawn at random."""
    params = dict(tree.parameters(Wav2Vec2(config, rngs=nnx.Rngs(key))))
    for name, value in params.items():
        if name.startswith("feature_extractor") and name.endswith("conv/bias"):
            key, of_this = jax.random.split(key)
            params[name] = _OFFSET * jax.random.normal(of_this, value.shape)
    return params


def train_audio(options: AudioOptions) -> Path:
    """Train, and write the file."""
    config = FAMILY.configs_from_toml(presets.find(options.model)).audio
    abstract, bands = tree.abstract(Wav2Vec2, config), _BANDS + 1
    states = config.num_hidden_layers + 1
    key = jax.random.key(options.seed)
    params: Params = {
        "model": _begin(config, key),
        "weights": jnp.zeros((states, config.hidden_size, bands)),
        "bias": jnp.zeros((states, bands)),
    }
    rate = optax.warmup_cosine_decay_schedule(0, options.learning_rate, _WARMUP, max(options.steps, _WARMUP + 1))
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    count = jnp.where(jnp.arange(bands) == 0, _BANDS, 1.0)

    def loss(params: Params, sounds: Float[Array, "B samples"]) -> Float[Array, ""]:
        found = tree.with_parameters(abstract, params["model"])(sounds)
        told = jnp.einsum("btsd,sdk->btsk", found, params["weights"]) + params["bias"]
        return (count * jnp.square(told - heard(sounds, config)[:, :, None])).mean()

    @jax.jit
    def update(params: Params, state, sounds):
        value, gradients = jax.value_and_grad(loss)(params, sounds)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value

    sounds, state = _Sounds(options.seed), optimizer.init(params)
    bar = trange(options.steps, desc="steps", unit="step", dynamic_ncols=True)
    for step in bar:
        rng = np.random.default_rng([options.seed, step])
        params, state, value = update(params, state, sounds.batch(rng, options.batch_size))
        if step % 50 == 49:
            bar.set_postfix(loss=f"{value:.4f}")
    return _write(Path(options.output), params["model"])


def _write(path: Path, params: Params) -> Path:
    """Under the names of the published file, in float32 as that is."""
    rules = COMPONENTS["audio"].rules
    tensors = dict(torch_tensor(rules, name, np.asarray(value, np.float32)) for name, value in params.items())
    new_folder(path.parent)
    write_safetensors(path, {name: (x.dtype, x.shape) for name, x in tensors.items()}, lambda _: iter(tensors.values()))
    return path


def main(argv: list[str] | None = None) -> None:
    description = "Teach the toy wav2vec2 to hear."
    options = parse({"train_audio": AudioOptions}, "talkverse_jax.toy.train_audio", description, argv)["train_audio"]
    compile_cache.enable()
    print(f"{train_audio(options)}", file=sys.stderr)


if __name__ == "__main__":
    run_command(main)
