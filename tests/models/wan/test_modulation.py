"""How a stage takes the stream, by the kernel for TPUs (interpreted) as by plain XLA."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from talkverse_jax.models.wan import modulation
from talkverse_jax.ops.norm import layer_norm
from talkverse_jax.sharding.layout import Layout


def test_a_norm_with_vectors_of_its_own(monkeypatch):
    graphdef, own = nnx.split(layer_norm(256, 1e-6, affine=True, rngs=nnx.Rngs(0)))
    random = np.random.default_rng(0)
    own = jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape), jnp.float32), own)
    x = jnp.asarray(random.normal(size=(2, 24, 256)), jnp.float32)

    def loss(x, own):
        past, entering = modulation.normed(Layout(), nnx.merge(graphdef, own), x, jnp.float32)
        return (past * jnp.sin(entering)).sum()

    def gradients():
        return jax.tree.leaves(jax.value_and_grad(loss, argnums=(0, 1))(x, own))

    plain = gradients()
    kernel = functools.partial(modulation.normed_and_modulated, interpret=True)
    monkeypatch.setattr(modulation, "can_modulate", lambda *_: True)
    monkeypatch.setattr(modulation, "normed_and_modulated", kernel)
    for got, want in zip(gradients(), plain, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-4, rtol=1e-5)
