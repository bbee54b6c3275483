"""The reference bundles of tests/goldens, read with little beside jax, flax and numpy.

`talkverse-jax parity` compares more of them, and more closely; it wants every package
that `sample.py` does.
"""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from talkverse_jax.core import tree
from talkverse_jax.families.talkverse import keys as dit_keys
from talkverse_jax.families.talkverse.config import TalkVerseConfig
from talkverse_jax.families.talkverse.model import TalkVerse
from talkverse_jax.models.umt5 import keys as text_keys
from talkverse_jax.models.umt5.config import UMT5Config
from talkverse_jax.models.umt5.model import UMT5Encoder
from talkverse_jax.models.vae import keys as vae_keys
from talkverse_jax.models.vae.config import VAEConfig
from talkverse_jax.models.vae.model import WanVAE
from talkverse_jax.models.wan.config import WanConfig
from talkverse_jax.models.wav2vec2 import keys as audio_keys
from talkverse_jax.models.wav2vec2.config import Wav2Vec2Config
from talkverse_jax.models.wav2vec2.model import Wav2Vec2
from talkverse_jax.weights.match import load_torch
from talkverse_jax.weights.safetensors_io import read_file

GOLDENS = Path(__file__).parent.parent / "tests" / "goldens"
SMALL = ("dit_first_clip", "dit_motion", "dit_head128", "vae", "umt5", "wav2vec2")
FULL_WIDTH = "dit_full_width"  # 1.0 billion parameters in float32
LIMIT = 2e-4  # of the largest value of a tensor (docs/parity.md)

Arrays = dict[str, np.ndarray]


def errors(name: str) -> Iterator[tuple[str, float]]:
    """Each output of a bundle: its name and the largest error as a share of the largest value, in float32."""
    file = read_file(GOLDENS / f"{name}.safetensors")
    bundle = json.loads(json.loads(file.header)["__metadata__"]["bundle"])
    groups: dict[str, Arrays] = {"weights": {}, "taps": {}}
    for path, value in file.tensors.items():
        group, _, rest = path.partition("/")
        groups.setdefault(group, {})[rest] = value
    weights = groups["weights"] or _from_recipe(bundle["recipe"])
    run = {"dit": _dit, "vae": _vae, "umt5_encoder": _umt5, "wav2vec2": _wav2vec2}[bundle["component"]]
    with jax.default_matmul_precision("highest"):
        outputs = run(bundle, weights, groups["inputs"], groups["taps"])
    for output, ours in outputs.items():
        reference = groups["outputs"][output].astype(np.float64)
        error = np.abs(np.asarray(ours, np.float64) - reference).max()
        yield output, float(error / np.abs(reference).max())


def _from_recipe(recipe: dict[str, Any]) -> Arrays:
    """Weights as `weights.bundle` makes them; what else this numpy draws would show in every output."""
    tensors = {}
    for name, shape, mean, std in recipe["tensors"]:
        rng = np.random.Generator(np.random.PCG64([recipe["seed"], zlib.crc32(name.encode())]))
        value = rng.standard_normal(shape, dtype=np.float32)
        value *= np.float32(std)
        value += np.float32(mean)
        tensors[name] = value
    return tensors


def _load(model: type[nnx.Module], config, keys, weights: Arrays, **options) -> nnx.Module:
    abstract = tree.abstract(model, config, **options)
    return load_torch(abstract, keys.RULES, weights, model.__name__, getattr(keys, "IGNORED", ()))


def _last(x: np.ndarray) -> jax.Array:
    """Channels last."""
    return jnp.moveaxis(jnp.asarray(x), 1, -1)


def _dit(bundle: dict, weights: Arrays, inputs: Arrays, taps: Arrays) -> dict[str, jax.Array]:
    given, channels = bundle["config"], inputs["latents"].shape[1]
    widths = ("dim", "ffn_dim", "freq_dim", "text_dim", "text_len", "num_heads", "num_layers")
    trunk = WanConfig(
        **{width: given[width] for width in widths},
        in_channels=channels,
        out_channels=channels,
        patch_size=(1, 2, 2),
        eps=1e-6,
    )
    config = TalkVerseConfig(
        trunk=trunk,
        audio_dim=given["audio_dim"],
        audio_layers=inputs["audio"].shape[1],
        audio_tokens=4,
        audio_inject_layers=tuple(given["audio_inject_layers"]),
        motion_frames=bundle["motion_frames"][0],
    )
    model = _load(TalkVerse, config, dit_keys, weights, kernel="xla")

    @jax.jit
    def call(model, text, audio, reference, motion, latents, timestep):
        return model.velocity(latents, timestep, model.prepare(text, audio, reference, motion))

    velocity = call(
        model,
        inputs["context"],
        np.transpose(inputs["audio"], (0, 3, 1, 2)),
        _last(inputs["ref_latents"]),
        None if bundle["drop_motion_frames"] else _last(inputs["motion_latents"]),
        _last(inputs["latents"]),
        inputs["timestep"],
    )
    return {"velocity": jnp.moveaxis(velocity, -1, 1)}


def _vae(bundle: dict, weights: Arrays, inputs: Arrays, taps: Arrays) -> dict[str, jax.Array]:
    sizes = {name: tuple(v) if isinstance(v, list) else v for name, v in bundle["config"].items()}
    mean, std = (tuple(map(float, taps[name])) for name in ("mean", "std"))
    vae = _load(WanVAE, VAEConfig(**sizes, latent_mean=mean, latent_std=std), vae_keys, weights)
    return {
        "encoded": jnp.moveaxis(jax.jit(WanVAE.encode)(vae, _last(inputs["video"])), -1, 1),
        "decoded": jnp.moveaxis(jax.jit(WanVAE.decode)(vae, _last(inputs["latents"])), -1, 1),
    }


def _umt5(bundle: dict, weights: Arrays, inputs: Arrays, taps: Arrays) -> dict[str, jax.Array]:
    config = UMT5Config.from_upstream(bundle["config"], "umt5")
    return {"hidden": _load(UMT5Encoder, config, text_keys, weights)(inputs["ids"], inputs["mask"])}


def _wav2vec2(bundle: dict, weights: Arrays, inputs: Arrays, taps: Arrays) -> dict[str, jax.Array]:
    config = Wav2Vec2Config.from_huggingface(bundle["config"], "wav2vec2")
    states = _load(Wav2Vec2, config, audio_keys, weights)(taps["normalized"])[0]
    return {"hidden_states": jnp.moveaxis(states, 1, 0)}
