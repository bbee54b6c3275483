"""How timesteps are drawn, and losses by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.diffusion.loss import LogitNormal, Shifted, draw, sample_keys, sample_losses
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.families.talkverse.settings import TrainingSettings
from talkverse_jax.families.talkverse.training import TRAINING, Dropouts
from talkverse_jax.pipeline.training import FLOW_MATCHING
from tests.conftest import CONFIGS

COUNT = 20000
KEYS = sample_keys(3, jnp.stack([jnp.zeros(COUNT), jnp.arange(COUNT)], axis=1).astype(jnp.uint32))


def drawn(*logit_normal: float):
    configs = FAMILY.configs_from_toml(CONFIGS / "model_tiny.toml")
    loss = TRAINING.losses[FLOW_MATCHING](configs, TrainingSettings(logit_normal=logit_normal), False)
    return jax.jit(lambda keys: draw(keys, (1,), Dropouts(), loss.draw_timestep))(KEYS)


def test_evenly_unless_told_otherwise():
    timesteps = np.asarray(drawn().timestep)
    assert np.histogram(timesteps, 5, (0, 1000))[0] == pytest.approx([COUNT / 5] * 5, rel=0.05)
    # as before there was a choice: the same numbers of the same keys
    before = jax.vmap(lambda key: jax.random.randint(jax.random.split(key, 6)[0], (), 0, 1000))(KEYS)
    np.testing.assert_array_equal(timesteps, before)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1.0, 0.5), (-0.5, 1.5)])
def test_logits_are_normal(mean, std):
    found = drawn(mean, std)
    timesteps = np.asarray(found.timestep)
    assert timesteps.dtype == np.int32 and timesteps.min() >= 0 and timesteps.max() <= 999
    logits = np.log((timesteps + 0.5) / (1000 - timesteps - 0.5))
    assert logits.mean() == pytest.approx(mean, abs=0.03) and logits.std() == pytest.approx(std, rel=0.03)
    inside = np.mean(np.abs(logits - mean) < std)
    assert inside == pytest.approx(0.683, abs=0.015), "as of a normal distribution"
    np.testing.assert_array_equal(found.noise, drawn().noise)


def test_the_ends_stay_timesteps():
    keys = jax.random.split(jax.random.key(0), 100)
    assert {int(t) for t in jax.vmap(LogitNormal(30.0, 1.0))(keys)} == {999}
    assert {int(t) for t in jax.vmap(LogitNormal(-30.0, 1.0))(keys)} == {0}


def test_timesteps_move_towards_noise():
    timesteps = np.asarray(jax.vmap(Shifted(5.0))(KEYS))
    even = np.asarray(jax.vmap(jax.random.uniform)(KEYS))
    np.testing.assert_allclose(timesteps, np.minimum(np.floor(1000 * 5 * even / (1 + 4 * even)), 999), atol=1)
    assert np.median(timesteps) == pytest.approx(833, abs=5)
    with pytest.raises(UserError, match="--timestep_shift 5.0: leave it out beside --logit_normal"):
        TrainingSettings(logit_normal=(0.0, 1.0), timestep_shift=5.0)


@pytest.mark.parametrize("masked", [False, True])
def test_a_change_of_the_error_counts_besides(masked):
    velocity = jnp.array([1.0, 2.0, 5.0]).reshape(1, 3, 1, 1, 1)  # errors, as the flow itself is 0
    still, weights = jnp.zeros_like(velocity), jnp.array([1.0, 1.0, 0.0]).reshape(1, 3, 1, 1) if masked else None
    flow, change = ((1 + 4) / 2, 1) if masked else ((1 + 4 + 25) / 3, (1 + 9) / 2)
    np.testing.assert_allclose(sample_losses(velocity, still, still, weights), [flow], rtol=1e-5)
    np.testing.assert_allclose(sample_losses(velocity, still, still, weights, 0.5), [flow + 0.5 * change], rtol=1e-5)


@pytest.mark.parametrize("given", [(0.0,), (0.0, 0.0), (0.0, 1.0, 2.0)])
def test_numbers_that_make_no_distribution(given):
    with pytest.raises(UserError, match=r"--logit_normal .*give a mean and a deviation above 0, such as 0 1"):
        TrainingSettings(logit_normal=given)
