"""The transformer's operations: closed formulas against what XLA compiles, and the published size."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from talkverse_jax.core import tree
from talkverse_jax.families.multitalk import flops as model_flops
from talkverse_jax.families.multitalk.config import MultiTalkConfig
from talkverse_jax.families.multitalk.model import MultiTalk
from talkverse_jax.models.clip.config import ClipVisionConfig
from talkverse_jax.models.wan.flops import block_layers
from talkverse_jax.plan.hlo_cost import program_cost
from tests.families.multitalk.samples import FRAMES, GRID, PLAIN, begin, random_batch
from tests.families.multitalk.small import SMALL, random_inputs

IMAGE = 5  # tokens of a picture
SIZES: dict[str, Any] = dict(frames=3, height=16, width=16)


def compiled(function, *args) -> float:
    return program_cost(jax.jit(function).lower(*args).compile().as_text()).flops


@pytest.mark.parametrize("speakers", [1, 2])
def test_prepare_and_step_as_compiled(speakers):
    model = tree.abstract(MultiTalk, SMALL, scan=False)
    inputs = jax.eval_shape(lambda: random_inputs(rows=2, speakers=speakers, **SIZES))
    given = [inputs[name] for name in ("text", "image", "known", "sound", "speakers")]
    prepare = jax.eval_shape(MultiTalk.prepare, model, *given)
    shared = model_flops.prepare_flops(SMALL, 3, image=IMAGE, rows=2, speakers=speakers)
    assert compiled(MultiTalk.prepare, model, *given) == pytest.approx(shared, rel=0.01)
    step = model_flops.step_flops(SMALL, 3, 16, 16, image=IMAGE, rows=2, speakers=speakers)
    found = compiled(MultiTalk.velocity, model, inputs["latents"], inputs["timestep"], prepare)
    assert found == pytest.approx(step, rel=0.02)


def test_a_skipped_step_as_compiled():
    model = tree.abstract(MultiTalk, SMALL, scan=False)
    inputs = jax.eval_shape(lambda: random_inputs(rows=2, **SIZES))
    given = [inputs[name] for name in ("text", "image", "known", "sound", "speakers")]
    prepare = jax.eval_shape(MultiTalk.prepare, model, *given)
    cache = jax.ShapeDtypeStruct((2, 3 * 64, SMALL.trunk.dim), jnp.float32)
    found = compiled(MultiTalk.cached_velocity, model, inputs["latents"], inputs["timestep"], prepare, cache)
    expected = model_flops.skipped_step_flops(SMALL, 3, 16, 16, rows=2)
    assert found == pytest.approx(expected, rel=0.02)  # but for what blocks are told of the time


@pytest.mark.slow
@pytest.mark.parametrize("strategy, blocks", [("full", 3), ("moderate", 1)])
def test_a_batch_of_training_as_compiled(strategy, blocks):
    step, states = begin(strategy, loss=PLAIN)
    gradients, _ = step.programs("cpu")
    program = gradients.lower({"dit": states["dit"].params}, step.frozen, random_batch(2), sums=None).compile()
    found = program_cost(program.as_text()).flops
    expected = 2 * model_flops.training_flops(SMALL, FRAMES, GRID, GRID, image=IMAGE, speakers=2, trained_blocks=blocks)
    assert found == pytest.approx(expected, rel=0.1)  # inputs' gradients of the first layers are not needed


def test_a_step_is_mostly_twice_its_weights_a_token():
    """At 640x640, 33,600 tokens: 2 x parameters x tokens of the layers, and attention; two people cost 2% more."""
    config, image = MultiTalkConfig.multitalk_14b(), ClipVisionConfig.vit_h14().tokens
    tokens, frame = model_flops.clip_tokens(config, 21, 80, 80)
    assert (tokens, frame) == (33_600, 1600)
    layers = 40 * (block_layers(config.trunk, tokens) + 4 * tokens * config.trunk.dim**2)
    attention = 40 * 4 * tokens * (tokens + 512 + image) * config.trunk.dim
    one = model_flops.step_flops(config, 21, 80, 80, image=image)
    assert layers + attention < one < 1.01 * (layers + attention)
    two = model_flops.step_flops(config, 21, 80, 80, image=image, speakers=2)
    assert 1.005 < two / one < 1.03
    many = dataclasses.replace(config, recipe="infinitetalk")
    assert model_flops.step_flops(many, 21, 80, 80, image=image, rows=3) == 3 * one
