"""UMT5 encoder against the original's numbers, its real size, and bfloat16 weights."""

import jax.numpy as jnp
import numpy as np
import pytest

from talkverse_jax.core import tree
from talkverse_jax.core.errors import UserError
from talkverse_jax.models.umt5 import model
from talkverse_jax.models.umt5.config import UMT5Config
from talkverse_jax.models.umt5.keys import RULES
from talkverse_jax.models.umt5.model import UMT5Encoder, position_buckets
from talkverse_jax.weights.match import load_torch, torch_shapes


@pytest.fixture
def bundle(golden):
    return golden("umt5")


def load(bundle, **kwargs) -> UMT5Encoder:
    config = UMT5Config.from_upstream(bundle.config, "umt5")
    module = tree.abstract(UMT5Encoder, config, **kwargs)
    return load_torch(module, RULES, bundle.weights(), "umt5")


def relative_error(ours, reference) -> float:
    return float(np.abs(np.asarray(ours) - reference).max() / np.abs(reference).max())


def test_golden(bundle):
    inputs = bundle.group("inputs")
    hidden = load(bundle)(inputs["ids"], inputs["mask"])
    assert hidden.dtype == jnp.float32
    assert relative_error(hidden, bundle.group("outputs")["hidden"]) < 1e-5


def test_padding_length_changes_no_token(bundle):
    inputs = bundle.group("inputs")
    encoder, length = load(bundle), int(inputs["mask"][0].sum())
    whole = encoder(inputs["ids"][:1], inputs["mask"][:1])
    short = encoder(inputs["ids"][:1, :length], inputs["mask"][:1, :length])
    assert relative_error(short, np.asarray(whole[:, :length])) < 1e-5


def test_bfloat16_weights(bundle):
    inputs, parameters = bundle.group("inputs"), tree.parameters(load(bundle))
    halved = {path: jnp.asarray(value, jnp.bfloat16) for path, value in parameters.items()}
    encoder = tree.with_parameters(load(bundle, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16), halved)
    hidden = encoder(inputs["ids"], inputs["mask"])
    valid = inputs["mask"].astype(bool)
    assert relative_error(hidden[valid], bundle.group("outputs")["hidden"][valid]) < 5e-2


def test_position_buckets():
    """The distances at which a new bucket begins, for UMT5's 32 buckets up to 128."""
    to_the_left = position_buckets(200, 32, 128)[-1, ::-1]  # seen from the last token
    begins = np.flatnonzero(np.diff(to_the_left, prepend=-1))
    np.testing.assert_array_equal(begins, [*range(9), 12, 16, 23, 32, 46, 64, 91])
    np.testing.assert_array_equal(to_the_left[begins], np.arange(16))
    to_the_right = position_buckets(200, 32, 128)[0]
    np.testing.assert_array_equal(to_the_right[1:], to_the_left[1:] + 16)


def test_xxl_is_the_published_size():
    module = tree.abstract(UMT5Encoder, UMT5Config.xxl())
    parameters = tree.abstract_parameters(module)
    assert sum(leaf.size for leaf in parameters.values()) == 5_680_910_336
    shapes = torch_shapes(parameters, RULES)
    assert len(shapes) == 242
    assert shapes["token_embedding.weight"] == (256384, 4096)
    assert shapes["blocks.23.ffn.gate.0.weight"] == (10240, 4096)
    assert shapes["blocks.23.pos_embedding.embedding.weight"] == (32, 64)


def test_one_block_is_compiled_for_all_layers(bundle):
    """So the temporaries are one block's, also where XLA turns a program's weights to float32 at once."""
    inputs = bundle.group("inputs")
    model._run.clear_cache()
    load(bundle)(inputs["ids"], inputs["mask"])
    assert model._run._cache_size() == 1


def test_shared_positions_are_refused(bundle):
    with pytest.raises(UserError, match="shared_pos"):
        UMT5Config.from_upstream({**bundle.config, "shared_pos": True}, "umt5")
