import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkverse_jax.core import tree
from talkverse_jax.core.config import from_dict, to_dict
from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.config import TalkVerseConfig
from talkverse_jax.families.talkverse.keys import RULES
from talkverse_jax.families.talkverse.model import TalkVerse
from talkverse_jax.families.talkverse.motion import motion_positions
from talkverse_jax.parity.compare import run_bundle
from talkverse_jax.weights.match import torch_shapes
from tests.conftest import GOLDENS
from tests.tiny import TINY, random_module


def tiny_model(dtype=jnp.float32) -> TalkVerse:
    return random_module(TalkVerse, TINY, dtype)


def random_inputs(batch=1, frames=3, height=8, width=8):
    keys = iter(jax.random.split(jax.random.key(2), 5))

    def normal(*shape):
        return jax.random.normal(next(keys), shape)

    return dict(
        text=normal(batch, 16, 24),
        audio=normal(batch, 4 * frames, 25, 16),
        reference=normal(batch, 1, height, width, 48),
        motion=normal(batch, 19, height, width, 48),
        latents=normal(batch, frames, height, width, 48),
    )


@jax.jit
def call(model, text, audio, reference, motion, latents, timestep):
    return model.velocity(latents, timestep, model.prepare(text, audio, reference, motion))


@pytest.mark.parametrize("name", ["dit_first_clip", "dit_motion", "dit_head128", "dit_lora"])
def test_goldens_with_every_value_on_the_way(golden, name):
    found = run_bundle(golden(name), taps=True)
    assert max(c.max_rel for c in found) < 1e-5, [str(c) for c in found if c.max_rel >= 1e-5]
    assert name == "dit_lora" or len(found) > 10


@pytest.fixture(scope="module")
def published_model():
    return tree.abstract(TalkVerse, TalkVerseConfig.talkverse_5b(), dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)


def test_the_published_size_has_the_published_names_and_shapes(published_model):
    published = json.loads((GOLDENS / "talkverse_5b_tensors.json").read_text())
    ours = torch_shapes(tree.abstract_parameters(published_model), RULES)
    assert len(ours) == 976
    assert ours == {name: tuple(shape) for name, shape in published.items()}


def test_the_published_size_traces_to_the_clip_of_640(published_model):
    """13,000 tokens: 30*20*20 noisy, 400 reference, 400 + 100 + 4*25 motion."""
    shape = jax.ShapeDtypeStruct
    conditions = jax.eval_shape(
        lambda m, *inputs: m.prepare(*inputs),
        published_model,
        shape((1, 512, 4096), jnp.float32),
        shape((1, 120, 25, 1024), jnp.float32),
        shape((1, 1, 40, 40, 48), jnp.float32),
        shape((1, 19, 40, 40, 48), jnp.float32),
    )
    assert conditions.rope.cos.shape == (13_000, 64)
    assert conditions.runs[0][0].keys.shape == (1, 512, 24, 128)
    latents = shape((1, 30, 40, 40, 48), jnp.float32)
    velocity = jax.eval_shape(
        lambda m, *inputs: m.velocity(*inputs),
        published_model,
        latents,
        shape((1,), jnp.float32),
        conditions,
    )
    assert velocity.shape == latents.shape and velocity.dtype == jnp.float32


def test_the_conditions_of_a_clip_may_be_computed_once():
    model, inputs = tiny_model(), random_inputs()
    latents = inputs.pop("latents")
    conditions = jax.jit(lambda m, **x: m.prepare(**x))(model, **inputs)
    for t in (3.0, 900.0):
        timestep = jnp.array([t])
        once = jax.jit(lambda m, *x: m.velocity(*x))(model, latents, timestep, conditions)
        whole = call(model, **inputs, latents=latents, timestep=timestep)
        np.testing.assert_allclose(once, whole, atol=2e-6)


def test_a_batch_is_its_members():
    model, inputs = tiny_model(), random_inputs(batch=2)
    timestep = jnp.array([100.0, 700.0])
    both = call(model, **inputs, timestep=timestep)
    for i in range(2):
        one = call(model, **{k: v[i : i + 1] for k, v in inputs.items()}, timestep=timestep[i : i + 1])
        np.testing.assert_allclose(both[i : i + 1], one, atol=2e-5)


def test_every_input_matters_and_a_frame_hears_no_future():
    model, inputs = tiny_model(), random_inputs()
    timestep = jnp.array([500.0])
    base = call(model, **inputs, timestep=timestep)
    for name in inputs:
        other = call(model, **inputs | {name: inputs[name] + 0.5}, timestep=timestep)
        assert np.abs(other - base).max() > 1e-3, name
    sound = model.audio_encoder(inputs["audio"])
    later = model.audio_encoder(inputs["audio"].at[:, 8:].add(1.0))
    np.testing.assert_array_equal(sound.tokens[:, :2], later.tokens[:, :2])
    assert np.abs(sound.tokens[:, 2] - later.tokens[:, 2]).max() > 1e-3


def test_bfloat16_stays_near_float32():
    inputs, timestep = random_inputs(), jnp.array([500.0])
    exact = call(tiny_model(), **inputs, timestep=timestep)
    rough = call(tiny_model(jnp.bfloat16), **inputs, timestep=timestep)
    assert rough.dtype == jnp.float32
    assert 1e-5 < np.abs(rough - exact).mean() / np.abs(exact).mean() < 0.05


def test_motion_positions_at_640():
    positions = motion_positions((40, 40), (1, 2, 2))
    assert len(positions) == 600
    assert sorted(set(positions[:, 0])) == [-19, -14, -9, -4, -3, -1]
    np.testing.assert_array_equal(positions[399], [-1, 19, 19])
    np.testing.assert_array_equal(positions[400 + 99], [-3, 19, 19])
    np.testing.assert_array_equal(positions[500 + 6], [-19, 4, 4])  # trunc(linspace(0, 19, 5))[1]


def test_odd_rests_of_the_grid_are_dropped():
    model, inputs = tiny_model(), random_inputs(height=10, width=14)
    out = call(model, **inputs, timestep=jnp.array([10.0]))
    assert out.shape == (1, 3, 10, 14, 48)


def test_configs_of_before_have_the_vae_time_stride_of_then():
    values = to_dict(TINY)
    assert values.pop("time_stride") == 4
    assert from_dict(TalkVerseConfig, values, "config.json") == TINY
    assert (TINY.motion_latent_frames, TINY.latent_frames(120), TINY.latent_frames(8)) == (19, 30, 2)
    with pytest.raises(UserError, match="time_stride 8: the audio encoder needs 4"):
        tree.abstract(TalkVerse, dataclasses.replace(TINY, time_stride=8))


def test_a_config_that_cannot_work_says_so():
    values = TINY.__dict__ | {"audio_inject_layers": (0, 7)}
    with pytest.raises(UserError, match=r"\[7\] are no blocks; num_layers is 3"):
        TalkVerseConfig(**values)
