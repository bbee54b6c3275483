"""Small models with random parameters, made without running any initialiser."""

import zlib
from typing import TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

from talkverse_jax.core import tree
from talkverse_jax.families.talkverse.config import TalkVerseConfig
from talkverse_jax.models.wan.config import WanConfig

Module = TypeVar("Module", bound=nnx.Module)

TINY = TalkVerseConfig(
    trunk=WanConfig(
        dim=64,
        ffn_dim=96,
        freq_dim=32,
        text_dim=24,
        text_len=16,
        num_heads=2,
        num_layers=3,
        in_channels=48,
        out_channels=48,
        patch_size=(1, 2, 2),
        eps=1e-6,
    ),
    audio_dim=16,
    audio_layers=25,
    audio_tokens=4,
    audio_inject_layers=(0, 2),
    motion_frames=73,
)


def random_module(model: type[Module], config, dtype=jnp.float32) -> Module:
    """The model with normal parameters: kernels of variance 1 / fan-in, vectors small, norms about 1.

    The numbers depend on each parameter's path alone, so a model in another dtype has the same, rounded.
    """
    module = tree.abstract(model, config, dtype=dtype, param_dtype=dtype)
    return tree.with_parameters(module, random_values(module))


def random_values(module: nnx.Module) -> tree.Flat:
    """Such parameters by path, in the dtypes of an abstract module."""
    values = {}
    for path, leaf in tree.abstract_parameters(module).items():
        rng = np.random.default_rng(zlib.crc32(path.encode()))
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 100
        value = rng.standard_normal(leaf.shape, dtype=np.float32) / np.sqrt(fan_in)
        values[path] = jnp.asarray(value + path.endswith(("scale", "gamma")), leaf.dtype)
    return values
