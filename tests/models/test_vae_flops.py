"""The VAEs' own operations: closed formulas against what XLA compiles."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from talkverse_jax.core import tree
from talkverse_jax.models.vae.config import VAEConfig
from talkverse_jax.models.vae.flops import decode_flops, encode_flops
from talkverse_jax.models.vae.model import WanVAE
from talkverse_jax.plan.hlo_cost import program_cost

CONFIGS = {
    "2.1": dataclasses.replace(VAEConfig.wan21(), dim=8, dec_dim=8),
    "2.2": dataclasses.replace(VAEConfig.wan22(), dim=8, dec_dim=8),
}


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS)
def config(request):
    return request.param


def _compiled_flops(function, config, *shape) -> float:
    """A CPU computes frame by frame exactly what the model asks for, but the first frame as a whole chunk."""
    vae, x = tree.abstract(WanVAE, config), jax.ShapeDtypeStruct(shape, jnp.float32)
    return program_cost(jax.jit(function).lower(vae, x).compile().as_text()).flops


def test_the_decoder_as_compiled(config):
    first, second, third = (decode_flops(config, frames, 4, 2) for frames in (1, 2, 3))
    assert first < second - first == third - second
    assert _compiled_flops(WanVAE.decode, config, 1, 3, 4, 2, config.z_dim) == 3 * (third - second)


def test_the_encoder_as_compiled(config):
    h, w = 4 * config.space_stride, 2 * config.space_stride
    chunk = encode_flops(config, 9, h, w) - encode_flops(config, 5, h, w)
    unused = 2 * (4 * 2) * 2 * config.z_dim * config.z_dim  # the last layer computes the variance too, of every chunk
    assert _compiled_flops(WanVAE.encode, config, 1, 9, h, w, 3) == 3 * (chunk + unused)
