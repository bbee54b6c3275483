"""The models' own operations: closed formulas against published sizes and against what XLA compiles."""

import jax
import jax.numpy as jnp
import pytest

from talkverse_jax.core import tree
from talkverse_jax.families.talkverse import flops as model_flops
from talkverse_jax.families.talkverse.components import ModelConfigs
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.models.wav2vec2.flops import audio_flops
from talkverse_jax.models.wav2vec2.model import Wav2Vec2
from talkverse_jax.plan.hlo_cost import program_cost
from tests.conftest import CONFIGS


@pytest.fixture(scope="module")
def tiny() -> ModelConfigs:
    return FAMILY.configs_from_toml(CONFIGS / "model_tiny.toml")


def _compiled_flops(function, model, *shapes) -> float:
    args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return program_cost(jax.jit(function).lower(model, *args).compile().as_text()).flops


def _abstract(model, config):
    return tree.abstract(model, config)


@pytest.mark.parametrize(
    "h, w, motion, tokens", [(40, 40, True, 13_000), (80, 44, True, 28_580), (40, 40, False, 12_400)]
)
def test_tokens_of_a_clip(h, w, motion, tokens):
    config = FAMILY.real_size().dit
    assert model_flops.clip_tokens(config, 30, h, w, motion)[1] == tokens


def test_a_step_is_mostly_twice_its_weights_a_token():
    """13,000 tokens, two branches: 2 x parameters x tokens for the blocks' layers, and attention."""
    config = FAMILY.real_size().dit
    trunk = config.trunk
    layers = 30 * (6 * trunk.dim**2 + 2 * trunk.dim * trunk.ffn_dim)
    attention = 30 * 4 * 13_000 * (13_000 + 512) * trunk.dim
    rough = 2 * (2 * 13_000 * layers + attention)
    assert rough < model_flops.step_flops(config, 30, 40, 40, motion=True, branches=2) < 1.04 * rough


def test_wav2vec2_as_compiled(tiny):
    flops = _compiled_flops(Wav2Vec2.states, _abstract(Wav2Vec2, tiny.audio), (1, 16_000))
    assert flops == pytest.approx(audio_flops(tiny.audio, 16_000), rel=1e-3)
