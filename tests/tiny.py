"""Small models with random parameters, made without running any initialiser."""

import zlib
from typing import TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

from talkverse_jax.core import tree

Module = TypeVar("Module", bound=nnx.Module)


def random_module(model: type[Module], config, dtype=jnp.float32) -> Module:
    """The model with normal parameters: kernels of variance 1 / fan-in, vectors small, norms about 1.

    The numbers depend on each parameter's path alone, so a model in another dtype has the same, rounded.
    """
    module = nnx.eval_shape(lambda: model(config, rngs=nnx.Rngs(0), dtype=dtype, param_dtype=dtype))
    values = {}
    for path, leaf in tree.abstract_parameters(module).items():
        rng = np.random.default_rng(zlib.crc32(path.encode()))
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 100
        value = rng.standard_normal(leaf.shape, dtype=np.float32) / np.sqrt(fan_in)
        values[path] = jnp.asarray(value + path.endswith(("scale", "gamma")), dtype)
    return tree.with_parameters(module, values)
