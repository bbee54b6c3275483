"""wav2vec2-base: a norm over the whole sound, norms behind the layers' stages, features at another rate."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from talkverse_jax.core import tree
from talkverse_jax.core.config import from_dict, to_dict
from talkverse_jax.core.errors import UserError
from talkverse_jax.models.wav2vec2 import features
from talkverse_jax.models.wav2vec2.config import BASE, Wav2Vec2Config
from talkverse_jax.models.wav2vec2.flops import audio_flops
from talkverse_jax.models.wav2vec2.keys import IGNORED_BASE, RULES
from talkverse_jax.models.wav2vec2.model import Wav2Vec2
from talkverse_jax.models.wav2vec2.moments import Moments
from talkverse_jax.models.wav2vec2.rate import between, positions
from talkverse_jax.plan.hlo_cost import program_cost
from talkverse_jax.weights.match import load_torch, torch_shapes
from tests.sharded import error
from tests.tiny import random_module

TINY = dataclasses.replace(
    Wav2Vec2Config.base(),
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=48,
    conv_dim=(8,) * 7,
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
)


@pytest.fixture
def bundle(golden):
    return golden("multitalk/multitalk_wav2vec2")


def load(bundle, weights) -> Wav2Vec2:
    module = tree.abstract(Wav2Vec2, Wav2Vec2Config.from_huggingface(bundle.config, "base", BASE))
    return load_torch(module, RULES, weights, "base", IGNORED_BASE)


def noise(samples: int, batch: int = 1) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, samples), np.float32)


listen = jax.jit(lambda model, *arguments: model(*arguments))


def test_names_as_published(bundle):
    """With their prefix and the older spelling of weight norm, beside what only training needs."""
    bare = dict(bundle.weights())
    new = "parametrizations.weight.original"
    published = {
        "wav2vec2." + name.replace(new + "0", "weight_g").replace(new + "1", "weight_v"): value
        for name, value in bare.items()
    }
    assert any(name.endswith("conv.weight_g") for name in published)
    for name in ("quantizer.codevectors", "quantizer.weight_proj.bias", "project_q.weight", "project_hid.bias"):
        published[name] = np.zeros(2, np.float32)
    ours, theirs = load(bundle, bare), load(bundle, published)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(ours), nnx.state(theirs))
    with pytest.raises(UserError, match="lm_head.weight"):
        load(bundle, {**published, "lm_head.weight": np.zeros((2, 2), np.float32)})


def test_base_is_the_published_size():
    """The published file has 380,261,837 bytes: with the quantizer's 672,896 numbers 83 KB of them are no numbers."""
    parameters = tree.abstract_parameters(tree.abstract(Wav2Vec2, Wav2Vec2Config.base()))
    mask = 768
    count = sum(leaf.size for leaf in parameters.values()) + mask
    assert count == 94_371_712
    assert 0 < 380_261_837 - 4 * (count + 672_896) < 100_000
    shapes = torch_shapes(parameters, RULES)
    front = "wav2vec2.feature_extractor.conv_layers."
    assert shapes[front + "0.conv.weight"] == (512, 1, 10) and shapes[front + "6.conv.weight"] == (512, 512, 2)
    assert [name for name in shapes if name.startswith(front) and "conv.weight" not in name] == [
        front + "0.layer_norm.bias",
        front + "0.layer_norm.weight",
    ]
    assert shapes["wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight.original1"] == (768, 48, 128)


PUBLISHED = {
    "architectures": ["Wav2Vec2ForPreTraining"],
    "model_type": "wav2vec2",
    "conv_bias": False,
    "conv_dim": [512] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "do_stable_layer_norm": False,
    "feat_extract_activation": "gelu",
    "feat_extract_norm": "group",
    "hidden_act": "gelu",
    "hidden_size": 768,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-05,
    "num_attention_heads": 12,
    "num_conv_pos_embedding_groups": 16,
    "num_conv_pos_embeddings": 128,
    "num_hidden_layers": 12,
    "vocab_size": 32,
}


def test_published_config():
    assert Wav2Vec2Config.from_huggingface(PUBLISHED, "config.json", BASE) == Wav2Vec2Config.base()


@pytest.mark.parametrize(
    "change",
    [
        {"architectures": ["Wav2Vec2ForCTC"]},  # trained further
        {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},  # a large one
        {"do_stable_layer_norm": True},
        {"model_type": "hubert"},
    ],
)
def test_other_models_are_refused(change):
    with pytest.raises(UserError, match="config.json: .*use TencentGameMate/chinese-wav2vec2-base"):
        Wav2Vec2Config.from_huggingface({**PUBLISHED, **change}, "config.json", BASE)


def test_configs_of_before_are_large_ones():
    values = to_dict(Wav2Vec2Config.large_xlsr())
    for name in ("feat_extract_norm", "conv_bias", "do_stable_layer_norm"):
        del values[name]
    assert from_dict(Wav2Vec2Config, values, "config.json") == Wav2Vec2Config.large_xlsr()
    with pytest.raises(UserError, match="'batch' is none of 'layer', 'group'"):
        from_dict(Wav2Vec2Config, {**values, "feat_extract_norm": "batch"}, "config.json")


def test_padding_changes_no_state():
    """Zeros behind the sound, two lengths in a batch: each as if encoded alone, by its own mean and variance."""
    model, lengths, waveform = random_module(Wav2Vec2, TINY), (9_000, 14_321), noise(16_000, batch=2)
    padded = waveform * (np.arange(waveform.shape[1]) < np.array(lengths)[:, None])
    together = listen(model, padded, np.array(lengths))
    for row, length in enumerate(lengths):
        alone = listen(model, waveform[row : row + 1, :length])
        assert alone.shape[1:3] == (TINY.frames(length), 3)
        assert error(together[row : row + 1, : alone.shape[1]], alone) < 3e-6


def test_blocks_change_no_state(monkeypatch):
    model, waveform = random_module(Wav2Vec2, TINY), noise(51_360, batch=2) + 3.0
    whole = listen(model, waveform)
    listen.clear_cache()
    monkeypatch.setattr(features, "BLOCK", 23)
    assert error(listen(model, waveform), whole) < 3e-6


def test_a_norm_is_over_the_whole_sound():
    """One second sounds another way beside a louder one."""
    model, waveform = random_module(Wav2Vec2, TINY), noise(16_000)
    beside = np.concatenate([waveform, 10 * waveform[:, ::-1]], axis=1)
    alone, other = (np.asarray(listen(model, w)) for w in (waveform, beside))
    assert error(other[:, : alone.shape[1], 0], alone[:, :, 0]) > 0.1


def test_moments_of_parts_are_those_of_the_whole():
    x = 1000 + np.random.default_rng(0).standard_normal((2, 90, 5)).astype(np.float32)
    parts = [
        Moments.of(jnp.asarray(x[:, a:b]), jnp.ones((2, b - a), bool)).double()
        for a, b in ((0, 31), (31, 33), (33, 90))
    ]
    nothing = Moments.of(jnp.asarray(x[:, :3]), jnp.zeros((2, 3), bool)).double()
    total = nothing.joined(parts[0]).joined(nothing).joined(parts[1]).joined(parts[2])
    np.testing.assert_allclose(total.mean, x.mean(1, dtype=np.float64), rtol=1e-7)
    np.testing.assert_allclose(total.variance, x.var(1, dtype=np.float64), rtol=1e-3)
    assert total.count.tolist() == [90, 90]


@pytest.mark.parametrize("vectors, rows", [(81, 40), (2, 1), (4, 2), (5, 2), (1, 1)])
def test_rows_lie_between_vectors(vectors, rows):
    x = np.random.default_rng(0).standard_normal((1, vectors + 1, 3)).astype(np.float32)  # one behind the end
    index, share = positions(vectors, rows, np.arange(rows))
    found = between(jnp.asarray(x), jnp.asarray(index, jnp.int32), jnp.asarray(share))
    where = np.linspace(0, vectors - 1, rows)
    wanted = [np.interp(where, np.arange(vectors), x[0, :vectors, c]) for c in range(3)]
    np.testing.assert_allclose(found[0], np.stack(wanted, 1), atol=1e-6)


def test_positions_are_exact_in_an_hour():
    rows, vectors = 90_000, 180_000 - 1
    index, share = positions(vectors, rows, np.array([0, 45_000, 89_999]))
    assert index.tolist() == [0, 45_000 * 179_998 // 89_999, 179_998]
    assert share[1] == np.float32(45_000 * 179_998 % 89_999 / 89_999) and share[2] == 0


def test_flops_as_compiled():
    """Of two programs: the sound's moments, and its rows."""
    model, samples, rows = tree.abstract(Wav2Vec2, TINY), 16_000, 25

    def hear(model, waveform, moments):
        return model.hidden(model.features(waveform, moments)[:, :rows], jnp.array([rows]))

    def measure(model, waveform):
        return model.moments(waveform, jnp.array([samples]))

    waveform = jax.ShapeDtypeStruct((1, samples), jnp.float32)
    moments = jax.eval_shape(measure, model, waveform)
    lowered = jax.jit(measure).lower(model, waveform), jax.jit(hear).lower(model, waveform, moments)
    flops = sum(program_cost(each.compile().as_text()).flops for each in lowered)
    assert flops == pytest.approx(audio_flops(TINY, samples, rows), rel=1e-3)
