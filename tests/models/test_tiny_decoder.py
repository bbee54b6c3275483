"""The tiny decoder against plain NumPy after the published program, and its ways of running against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkverse_jax.core import tree
from talkverse_jax.core.errors import UserError
from talkverse_jax.models.tiny_decoder.axes import AXES
from talkverse_jax.models.tiny_decoder.config import TinyDecoderConfig
from talkverse_jax.models.tiny_decoder.flops import tiny_decode_flops
from talkverse_jax.models.tiny_decoder.keys import rules
from talkverse_jax.models.tiny_decoder.model import TinyDecoder
from talkverse_jax.plan.hlo_cost import program_cost
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.pictures import picture_layout
from talkverse_jax.weights.match import torch_shapes
from talkverse_jax.weights.rule import torch_tensor
from tests.sharded import error, sharded
from tests.tiny import random_module

SMALL = TinyDecoderConfig(z_dim=3, dims=(6, 4, 8), blocks=2, time_growth=(1, 2), pixel_patch=2)

decode = jax.jit(lambda model, latents, discard=0: model.decode(latents, discard), static_argnames="discard")
decode_chunk = jax.jit(lambda model, latents, memories=None: model.decode_chunk(latents, memories))


@pytest.fixture(scope="module")
def model():
    return random_module(TinyDecoder, SMALL)


def _latents(frames: int, h: int = 3, w: int = 4) -> np.ndarray:
    return 2 * np.random.default_rng(1).standard_normal((1, frames, h, w, SMALL.z_dim), np.float32)


def _convolved(x, weight, bias=0.0):
    """[T, C, H, W] by [D, C, 3, 3]."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    height, width = x.shape[2:]
    parts = [
        np.einsum("tchw,dc->tdhw", padded[:, :, y : y + height, z : z + width], weight[:, :, y, z])
        for y in range(3)
        for z in range(3)
    ]
    return sum(parts) + np.reshape(bias, (-1, 1, 1))


def _plain(tensors, x, config):
    """A video [T, 3, H, W] in 0 to 1 of latents [F, z, h, w], layer by layer as the published decoder counts them."""
    of = lambda at, inside="": (tensors[f"decoder.{at}{inside}.weight"], tensors.get(f"decoder.{at}{inside}.bias", 0))  # noqa: E731
    x, at = np.maximum(_convolved(np.tanh(x / 3) * 3, *of(1)), 0), 3
    for growth in config.time_growth:
        for _ in range(config.blocks):
            y = np.concatenate([x, np.concatenate([np.zeros_like(x[:1]), x[:-1]])], axis=1)
            for number in (0, 2):
                y = np.maximum(_convolved(y, *of(at, f".conv.{number}")), 0)
            x, at = np.maximum(_convolved(y, *of(at, ".conv.4")) + x, 0), at + 1
        x = x.repeat(2, axis=2).repeat(2, axis=3)
        x = np.einsum("tchw,dc->tdhw", x, of(at + 1, ".conv")[0][:, :, 0, 0])
        x = x.reshape(growth * len(x), -1, *x.shape[2:])
        x, at = _convolved(x, *of(at + 2)), at + 3
    x = _convolved(np.maximum(x, 0), *of(at + 1))
    patch = config.pixel_patch
    t, _, h, w = x.shape
    x = x.reshape(t, 3, patch, patch, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(t, 3, patch * h, patch * w)
    return x[np.prod(config.time_growth) - 1 :]


def test_the_published_program(model):
    latents = _latents(4)
    tensors = dict(torch_tensor(rules(SMALL), path, np.asarray(x)) for path, x in tree.parameters(model).items())
    plain = _plain(tensors, latents[0].transpose(0, 3, 1, 2), SMALL).transpose(0, 2, 3, 1)
    ours = np.asarray(decode(model, latents))
    assert ours.shape == (1, 7, 3 * 8, 4 * 8, 3)
    np.testing.assert_allclose((ours[0] + 1) / 2, plain, atol=2e-6 * np.abs(plain).max())


def test_one_latent_frame_at_a_time(model):
    latents, memories, parts = _latents(5), None, []
    whole = np.asarray(decode(model, latents))
    for piece in np.split(latents, 5, axis=1):
        video, memories = decode_chunk(model, piece, memories)
        parts.append(np.asarray(video))
    assert [part.shape[1] for part in parts] == [1, 2, 2, 2, 2]
    assert error(np.concatenate(parts, axis=1), whole) < 1e-6
    first, memories = decode_chunk(model, latents[:, :3])
    second, _ = decode_chunk(model, latents[:, 3:], memories)
    assert error(np.concatenate([first, second], axis=1), whole) < 1e-6


def test_what_lies_further_back_than_its_reach_is_not_decoded(model):
    latents = _latents(9)
    assert SMALL.reach == 4
    whole, late = np.asarray(decode(model, latents)), np.asarray(decode(model, latents, discard=7))
    np.testing.assert_allclose(late, whole[:, -4:], atol=1e-6)
    np.testing.assert_array_equal(late, decode(model, latents[:, 3:], discard=4))
    with pytest.raises(ValueError, match="leaves none"):
        decode(model, latents, discard=9)


def test_split_pictures_are_the_same(model):
    layout = picture_layout(Layout(make_mesh(MeshConfig(context=-1), jax.devices()[:8], heads=8)))
    latents = _latents(3, h=4, w=4)
    split = decode(sharded(model, layout, AXES), latents)
    assert len({str(shard.index) for shard in split.addressable_shards}) == 8
    assert error(split, decode(model, latents)) < 1e-6


def test_its_own_operations_as_compiled():
    abstract, x = tree.abstract(TinyDecoder, SMALL), jax.ShapeDtypeStruct((1, 3, 4, 2, SMALL.z_dim), jnp.float32)
    text = jax.jit(lambda model, latents: model.decode_chunk(latents)[0]).lower(abstract, x).compile().as_text()
    assert program_cost(text).flops == tiny_decode_flops(SMALL, 3, 4, 2)


@pytest.mark.parametrize(
    "config, last", [(TinyDecoderConfig.taew2_1(), (3, 64, 3, 3)), (TinyDecoderConfig.taew2_2(), (12, 64, 3, 3))]
)
def test_published_names_and_shapes(config, last):
    shapes = torch_shapes(tree.abstract_parameters(tree.abstract(TinyDecoder, config)), rules(config))
    assert shapes["decoder.1.weight"] == (256, config.z_dim, 3, 3)
    assert shapes["decoder.3.conv.0.weight"] == (256, 512, 3, 3)
    assert shapes["decoder.7.conv.weight"] == (256, 256, 1, 1)
    assert shapes["decoder.13.conv.weight"] == (256, 128, 1, 1)
    assert shapes["decoder.19.conv.weight"] == (128, 64, 1, 1)
    assert shapes["decoder.20.weight"] == (64, 64, 3, 3) and "decoder.20.bias" not in shapes
    assert shapes["decoder.22.weight"] == last and len(shapes) == 64
    assert config.reach == 8 and config.time_stride == 4


def test_a_size_that_fits_nothing():
    with pytest.raises(UserError, match="give 3") as error:
        TinyDecoderConfig(z_dim=3, dims=(6, 4), blocks=2, time_growth=(1, 2), pixel_patch=2)
    assert error.value.field == "dims"
