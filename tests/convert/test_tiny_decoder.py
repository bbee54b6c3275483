"""The tiny decoder as an optional part of converted weights: its published file, and what may be wrong with it."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from talkverse_jax.convert.random_checkpoint import write_random_checkpoint
from talkverse_jax.core import tree
from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.families.talkverse.settings import Sources
from talkverse_jax.models.tiny_decoder.component import check_tiny_decoder
from talkverse_jax.models.tiny_decoder.config import TinyDecoderConfig
from talkverse_jax.models.vae.config import VAEConfig
from talkverse_jax.weights import store
from talkverse_jax.weights.published_files import write_safetensors
from talkverse_jax.weights.torch_reader import read_torch
from tests.conftest import CONFIGS
from tests.published import converted

CONFIG = FAMILY.configs_from_toml(CONFIGS / "model_tiny.toml")
GROWTH = "decoder.7.conv.weight"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """As it is published: with an encoder beside it."""
    folder = tmp_path_factory.mktemp("published")
    return write_random_checkpoint(FAMILY, folder, CONFIG, 0, ["tiny_decoder"])["tiny_decoder"]


def _with(file, target, **changes):
    """The same tensors with others, as safetensors."""
    tensors = {name: np.asarray(value) for name, value in read_torch(file).items()} | changes
    shapes = {name: (value.dtype, value.shape) for name, value in tensors.items()}
    write_safetensors(target, shapes, lambda shapes: iter(tensors.values()))
    return target


def test_it_joins_weights_that_are_whole_without_it(file, tmp_path):
    assert FAMILY.given(Sources()) == ("dit", "vae", "text", "audio") == FAMILY.needed
    assert FAMILY.given(Sources(tiny_decoder=str(file))) == (*FAMILY.needed, "tiny_decoder")
    encoder = {"encoder.0.weight": np.zeros((64, 12, 3, 3), np.float32)}
    published = _with(file, tmp_path / "taew2_2.safetensors", **encoder)
    folder = converted(tmp_path / "w", CONFIG, {"tiny_decoder": published}, components=("tiny_decoder",))
    module = store.load_module(folder, COMPONENTS["tiny_decoder"])
    ours, published = tree.parameters(module), read_torch(file)
    assert len(ours) == len(published) == 64
    kernel = np.asarray(published["decoder.3.conv.0.weight"]).transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(ours["levels/0/blocks/0/conv1/kernel"], kernel)
    assert module.config == CONFIG.tiny_decoder and ours["conv_out/bias"].dtype == jnp.float32


def test_a_file_that_makes_more_frames_gives_the_last_ones(file, tmp_path):
    growth = np.asarray(read_torch(file)[GROWTH])
    longer = _with(file, tmp_path / "longer.safetensors", **{GROWTH: np.concatenate([0 * growth, growth])})
    folder = converted(tmp_path / "w", CONFIG, {"tiny_decoder": longer}, components=("tiny_decoder",))
    ours = tree.parameters(store.load_module(folder, COMPONENTS["tiny_decoder"]))["levels/0/grow"]
    np.testing.assert_array_equal(ours, growth[:, :, 0, 0].T)


@pytest.mark.parametrize(
    "sizes, sources, message",
    [
        (CONFIG, {}, "--tiny_decoder missing; give the file of madebyollin/taehv to convert tiny_decoder"),
        (
            dataclasses.replace(CONFIG, tiny_decoder=None),
            {"tiny_decoder": "a.pth"},
            "--config sizes.toml: has no table [tiny_decoder]; add one",
        ),
        (CONFIG, {"tiny_decoder": "nowhere.pth"}, "nowhere.pth: no such file; give the path of"),
    ],
)
def test_what_is_missing_is_told(sizes, sources, message, tmp_path):
    with pytest.raises(UserError) as error:
        converted(tmp_path, sizes, sources, components=("tiny_decoder",), config="sizes.toml")
    assert message in str(error.value)


def test_another_size_is_told(file, tmp_path):
    wrong = dataclasses.replace(CONFIG, tiny_decoder=FAMILY.real_size().tiny_decoder)
    with pytest.raises(UserError, match=r"do not fit the model tiny_decoder:\n  of another shape: 63"):
        converted(tmp_path, wrong, {"tiny_decoder": file}, components=("tiny_decoder",))


def test_it_is_for_one_kind_of_latents():
    check_tiny_decoder(None, 1, (2, 3))
    check_tiny_decoder(TinyDecoderConfig.taew2_2(), 48, VAEConfig.wan22().strides)
    with pytest.raises(UserError, match="is for 48 latent channels, 4 frames and 16 pixels .*, the VAE has 16 latent"):
        check_tiny_decoder(TinyDecoderConfig.taew2_2(), 16, VAEConfig.wan21().strides)
