"""UMT5, wav2vec2 and CLIP's tower, heads and hidden channels split over eight devices, against one device."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from talkverse_jax.core import tree
from talkverse_jax.models.clip import axes as clip_axes
from talkverse_jax.models.clip import model as clip
from talkverse_jax.models.clip.config import ClipVisionConfig
from talkverse_jax.models.clip.model import ClipVision
from talkverse_jax.models.umt5 import axes as umt5_axes
from talkverse_jax.models.umt5 import keys as umt5_keys
from talkverse_jax.models.umt5 import model as umt5
from talkverse_jax.models.umt5.config import UMT5Config
from talkverse_jax.models.umt5.model import UMT5Encoder
from talkverse_jax.models.wav2vec2 import axes as wav2vec2_axes
from talkverse_jax.models.wav2vec2 import keys as wav2vec2_keys
from talkverse_jax.models.wav2vec2.config import Wav2Vec2Config
from talkverse_jax.models.wav2vec2.model import Wav2Vec2
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.rules import ENCODING
from talkverse_jax.weights.match import load_torch
from tests.sharded import arrays, collectives, error, sharded, share_of_all, shares
from tests.tiny import random_module

TEXT = UMT5Config(
    vocab=64, dim=32, dim_attn=64, dim_ffn=48, num_heads=16, num_layers=2, num_buckets=32, max_distance=128
)
SOUND = Wav2Vec2Config(
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=8,
    intermediate_size=96,
    conv_dim=(8,) * 7,
    conv_kernel=(10, 3, 3, 3, 3, 2, 2),
    conv_stride=(5, 2, 2, 2, 2, 2, 2),
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
    layer_norm_eps=1e-5,
)
PICTURE = ClipVisionConfig(dim=64, num_heads=8, num_layers=3, image_size=28, patch_size=14, norm_eps=1e-5)
SPEECH = dataclasses.replace(SOUND, feat_extract_norm="group", conv_bias=False, do_stable_layer_norm=False)


@pytest.fixture(scope="module", params=["data=2,context=4", "fsdp=4,tensor=2"])
def layout(request):
    return Layout(make_mesh(MeshConfig.parse(request.param), jax.devices()[:8], heads=24), ENCODING)


listen = jax.jit(lambda model, waveform: model(waveform))


def test_text_is_the_same(layout):
    one = random_module(UMT5Encoder, TEXT)
    many = sharded(one, layout, umt5_axes.AXES)
    ids = np.random.default_rng(0).integers(0, TEXT.vocab, (2, 20))
    mask = (np.arange(20) < np.array([[20], [13]])).astype(np.int32)
    umt5._run.clear_cache()
    states = many(jnp.asarray(ids), jnp.asarray(mask))
    assert umt5._run._cache_size() == 1  # one program for all blocks
    assert error(states, one(ids, mask)) < 1e-5
    assert {x.data.shape for x in states.addressable_shards} == {states.shape}
    assert {path for path, share in shares(many).items() if share != 1 / 8} == {
        path for path in shares(many) if "norm" in path
    }


def test_text_block_is_split_in_use(layout):
    many = sharded(random_module(UMT5Encoder, TEXT), layout, umt5_axes.AXES)
    x, mask = jnp.zeros((1, 20, TEXT.dim)), jnp.ones((1, 20), bool)
    program = umt5._run.lower(*nnx.split(many.blocks[0]), x, mask).compile().as_text()
    assert not collectives(program, "all-gather") and not collectives(program, "all-to-all")
    assert collectives(program, "all-reduce") == [20 * TEXT.dim] * 2
    assert max(arrays(program)) <= 2 * 20 * 20  # two heads' scores


@pytest.mark.parametrize("config", [SOUND, SPEECH], ids=["large", "base"])
def test_sound_is_the_same(layout, config):
    one = random_module(Wav2Vec2, config)
    many = sharded(one, layout, wav2vec2_axes.AXES)
    waveform = np.random.default_rng(0).standard_normal((2, 8000), np.float32)
    assert error(listen(many, waveform), listen(one, waveform)) < 1e-5
    small = ("norm", "bias", "weight_g")
    large = {path: share for path, share in shares(many).items() if not any(name in path for name in small)}
    assert set(large.values()) == {1 / 8}


def test_sound_is_split_in_use(layout):
    """Kernels of the convolutions are gathered; what has the sound's length is summed, and never gathered."""
    many = sharded(random_module(Wav2Vec2, SOUND), layout, wav2vec2_axes.AXES)
    program = listen.lower(many, jnp.zeros((1, 8000))).compile().as_text()
    frames = SOUND.frames(8000)
    sizes = {path: leaf.size for path, leaf in tree.abstract_parameters(many).items()}
    assert set(collectives(program, "all-gather")) <= {
        size for path, size in sizes.items() if "conv" in path or "projection" in path
    }
    assert collectives(program, "all-reduce") == [frames * SOUND.hidden_size] * 2 * SOUND.num_hidden_layers


def test_pictures_are_the_same(layout):
    one = random_module(ClipVision, PICTURE)
    many = sharded(one, layout, clip_axes.AXES)
    picture = np.random.default_rng(0).uniform(-1, 1, (2, 24, 40, 3)).astype(np.float32)
    tokens = many(jnp.asarray(picture))
    assert error(tokens, one(jnp.asarray(picture))) < 1e-5
    assert {x.data.shape for x in tokens.addressable_shards} == {tokens.shape}
    kernels = {path: share for path, share in shares(many).items() if "kernel" in path}
    assert set(kernels.values()) == {1 / 8}


def test_picture_block_is_split_in_use(layout):
    """Sums after attention and feed-forward; queries, keys and values change places, as they lie in one kernel."""
    many, x = sharded(random_module(ClipVision, PICTURE), layout, clip_axes.AXES), jnp.zeros((1, 5, PICTURE.dim))
    program = clip._run.lower(*nnx.split(many.blocks[0]), x).compile().as_text()
    assert collectives(program, "all-reduce") == [5 * PICTURE.dim] * 2
    assert collectives(program, "all-gather") == [5 * 3 * PICTURE.dim] and not collectives(program, "all-to-all")


def test_goldens(layout, golden):
    bundle = golden("umt5")
    config = UMT5Config.from_upstream(bundle.config, "umt5")
    abstract = tree.abstract(UMT5Encoder, config)
    many = sharded(load_torch(abstract, umt5_keys.RULES, bundle.weights(), "umt5"), layout, umt5_axes.AXES)
    inputs = bundle.group("inputs")
    assert error(many(inputs["ids"], inputs["mask"]), bundle.group("outputs")["hidden"]) < 1e-5

    bundle = golden("wav2vec2")
    config = Wav2Vec2Config.from_huggingface(bundle.config, "wav2vec2")
    abstract = tree.abstract(Wav2Vec2, config)
    one = load_torch(abstract, wav2vec2_keys.RULES, bundle.weights(), "wav2vec2", wav2vec2_keys.IGNORED)
    states = listen(sharded(one, layout, wav2vec2_axes.AXES), bundle.group("taps")["normalized"])
    layers_first = np.moveaxis(np.asarray(states[0]), 1, 0)
    assert error(layers_first, bundle.group("outputs")["hidden_states"]) < 1e-5


def test_published_sizes_lie_in_parts(layout):
    for model, config, axes in (
        (UMT5Encoder, UMT5Config.xxl(), umt5_axes.AXES),
        (Wav2Vec2, Wav2Vec2Config.large_xlsr(), wav2vec2_axes.AXES),
        (Wav2Vec2, Wav2Vec2Config.base(), wav2vec2_axes.AXES),
        (ClipVision, ClipVisionConfig.vit_h14(), clip_axes.AXES),
    ):
        abstract = tree.abstract(model, config)  # noqa: B023
        assert share_of_all(abstract, layout, axes) < 1.01 / 8
