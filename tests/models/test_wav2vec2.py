"""wav2vec2 against the original's numbers; padding, blocks and the real size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from talkverse_jax.core import tree
from talkverse_jax.core.errors import UserError
from talkverse_jax.models.wav2vec2 import features
from talkverse_jax.models.wav2vec2.component import _completed
from talkverse_jax.models.wav2vec2.config import Wav2Vec2Config
from talkverse_jax.models.wav2vec2.keys import IGNORED, RULES
from talkverse_jax.models.wav2vec2.model import Wav2Vec2
from talkverse_jax.ops.attention import xla
from talkverse_jax.weights.match import load_torch, torch_shapes


@pytest.fixture
def bundle(golden):
    return golden("wav2vec2")


def load(bundle, weights=None, **kwargs) -> Wav2Vec2:
    config = Wav2Vec2Config.from_huggingface(bundle.config, "wav2vec2")
    module = tree.abstract(Wav2Vec2, config, **kwargs)
    return load_torch(module, RULES, weights or bundle.weights(), "wav2vec2", IGNORED)


def relative_error(ours, reference) -> float:
    return float(np.abs(np.asarray(ours) - reference).max() / np.abs(reference).max())


def run(model: Wav2Vec2, *arguments):
    return nnx.jit(lambda model, *arguments: model(*arguments))(model, *map(jnp.asarray, arguments))


def noise(seconds: float, batch: int = 1) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, int(seconds * 16_000)), np.float32)


def test_golden(bundle):
    states = run(load(bundle), bundle.group("taps")["normalized"])
    layers_first = np.moveaxis(np.asarray(states[0]), 1, 0)
    assert relative_error(layers_first, bundle.group("outputs")["hidden_states"]) < 1e-5


def test_older_spelling_of_weight_norm(bundle):
    new = "parametrizations.weight.original"
    weights = {
        name.replace(new + "0", "weight_g").replace(new + "1", "weight_v"): value
        for name, value in bundle.weights().items()
    }
    assert weights.keys() != bundle.weights().keys()
    ours, theirs = load(bundle, weights), load(bundle)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(ours), nnx.state(theirs))


def test_padding_changes_no_state(bundle):
    """Zeros behind the sound, two lengths in a batch: each as if encoded alone."""
    model, lengths, waveform = load(bundle), (9_000, 14_321), noise(1.5, batch=2)
    padded = waveform * (np.arange(waveform.shape[1]) < np.array(lengths)[:, None])
    together = run(model, padded, np.array(lengths))
    for row, length in enumerate(lengths):
        alone = np.asarray(run(model, waveform[row : row + 1, :length]))
        assert alone.shape[1] == model.config.frames(length)
        assert relative_error(together[row : row + 1, : alone.shape[1]], alone) < 2e-6


def test_blocks_of_queries_and_of_sound_change_no_state(bundle, monkeypatch):
    model, waveform = load(bundle), noise(3.21, batch=2)
    whole = np.asarray(run(model, waveform))
    monkeypatch.setattr(features, "BLOCK", 23)
    monkeypatch.setattr(xla, "SCORE_BYTES", 4 * 2 * 2 * 160 * 31)
    assert relative_error(run(model, waveform), whole) < 2e-6


def test_bfloat16(bundle):
    waveform = bundle.group("taps")["normalized"]
    states = run(load(bundle, dtype=jnp.bfloat16), waveform)
    assert states.dtype == jnp.float32
    assert relative_error(states, np.asarray(run(load(bundle), waveform))) < 5e-2


def test_large_is_the_published_size():
    module = tree.abstract(Wav2Vec2, Wav2Vec2Config.large_xlsr())
    parameters = tree.abstract_parameters(module)
    head_and_mask = 33 * 1024 + 33 + 1024  # the rest of Wav2Vec2ForCTC
    assert sum(leaf.size for leaf in parameters.values()) == 315_472_545 - head_and_mask
    shapes = torch_shapes(parameters, RULES)
    assert len(shapes) == 421
    positions = "wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight."
    assert shapes[positions + "original0"] == (1, 1, 128)
    assert shapes[positions + "original1"] == (1024, 64, 128)
    assert shapes["wav2vec2.feature_extractor.conv_layers.0.conv.weight"] == (512, 1, 10)


def test_memory_grows_with_the_length_not_its_square():
    """Large size, 1 and 4 minutes; all scores of 4 minutes at once would take 9 GB."""
    module = tree.abstract(Wav2Vec2, Wav2Vec2Config.large_xlsr())
    graphdef, state = nnx.split(module.encoder.layers[0].attention)

    def temporaries(frames: int) -> int:
        x = jax.ShapeDtypeStruct((1, frames, 1024), jnp.float32)
        count = jax.ShapeDtypeStruct((1,), jnp.int32)
        run = jax.jit(lambda state, x, count: nnx.merge(graphdef, state)(x, count))
        return run.lower(state, x, count).compile().memory_analysis().temp_size_in_bytes

    assert temporaries(4 * 3000) < 5 * temporaries(3000) < 5e9


def test_frames():
    config = Wav2Vec2Config.large_xlsr()
    assert (config.field, config.hop) == (400, 320)
    assert [config.frames(n) for n in (399, 400, 719, 720, 16_000)] == [0, 1, 1, 2, 49]


PUBLISHED = {
    "architectures": ["Wav2Vec2ForCTC"],
    "model_type": "wav2vec2",
    "vocab_size": 33,
    "conv_bias": True,
    "conv_dim": [512] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "do_stable_layer_norm": True,
    "feat_extract_activation": "gelu",
    "feat_extract_norm": "layer",
    "hidden_act": "gelu",
    "hidden_dropout": 0.05,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "layer_norm_eps": 1e-05,
    "num_attention_heads": 16,
    "num_conv_pos_embedding_groups": 16,
    "num_conv_pos_embeddings": 128,
    "num_hidden_layers": 24,
}


def test_published_config():
    assert Wav2Vec2Config.from_huggingface(PUBLISHED, "config.json") == Wav2Vec2Config.large_xlsr()


@pytest.mark.parametrize(
    "change",
    [
        {"architectures": ["Wav2Vec2ForPreTraining"]},  # the multilingual base
        {"vocab_size": 36},  # the German model
        {"feat_extract_norm": "group", "do_stable_layer_norm": False},  # wav2vec2-base
        {"do_stable_layer_norm": False},
        {"model_type": "hubert"},
        {"conv_bias": False},
    ],
)
def test_other_models_are_refused(change):
    with pytest.raises(UserError, match="config.json: .*use jonatasgrosman/wav2vec2-large-xlsr-53-english"):
        Wav2Vec2Config.from_huggingface({**PUBLISHED, **change}, "config.json")


def test_missing_size_is_named():
    values = {key: value for key, value in PUBLISHED.items() if key != "hidden_size"}
    with pytest.raises(UserError, match="config.json: missing 'hidden_size'"):
        Wav2Vec2Config.from_huggingface(values, "config.json")


def test_what_a_published_config_leaves_out_is_its_librarys_default(recwarn):
    whole = _completed(PUBLISHED)
    assert Wav2Vec2Config.from_huggingface(whole, "config.json") == Wav2Vec2Config.large_xlsr()
    short = {key: value for key, value in PUBLISHED.items() if key not in ("conv_dim", "layer_norm_eps")}
    assert Wav2Vec2Config.from_huggingface(_completed(short), "config.json") == Wav2Vec2Config.large_xlsr()
    base = {key: value for key, value in PUBLISHED.items() if key != "feat_extract_norm"}  # the default is another
    with pytest.raises(UserError, match="feat_extract_norm is 'group'"):
        Wav2Vec2Config.from_huggingface(_completed(base), "config.json")
