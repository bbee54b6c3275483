import jax.numpy as jnp
import numpy as np
import pytest

from talkverse_jax.diffusion.denoise import steps_of
from talkverse_jax.diffusion.solvers import advance, start
from talkverse_jax.families.multitalk.schedule import make_schedule
from talkverse_jax.models.wan.embeddings import timestep_sinusoid


def test_the_original_s_times_of_40_steps():
    times = make_schedule(40, 7.0).timesteps
    np.testing.assert_allclose(times[[0, 1, 2, -2, -1]], [1000, 996.259, 992.345, 160.653, 6.958], atol=5e-4)
    assert len(times) == 40 and times.dtype == np.float32


@pytest.mark.parametrize("steps", [1, 4, 14, 41])
@pytest.mark.parametrize("shift", [1.0, 2.0, 7.0, 11.0])
def test_times_are_those_of_float64_to_float32_s_last_digits(steps, shift):
    share = np.linspace(1000, 1, steps) / 1000
    times = make_schedule(steps, shift).timesteps
    np.testing.assert_allclose(times, 1000 * shift * share / (1 + (shift - 1) * share), rtol=1.5e-7)


def test_a_step_moves_by_the_difference_of_two_times():
    schedule = make_schedule(40, 7.0)
    times = np.append(schedule.timesteps, np.float32(0))
    x, velocity = jnp.asarray(np.random.default_rng(0).standard_normal((2, 500)), jnp.float32)
    for number, step in enumerate(steps_of("euler", schedule)):
        found = advance(start(x), velocity, step.coefficients).sample
        moved = x - velocity * ((times[number] - times[number + 1]) / 1000)
        np.testing.assert_allclose(found, moved, atol=1e-6)
        assert step.timestep == times[number]


def test_the_model_hears_fractions_of_a_timestep_exactly():
    times, half = make_schedule(40, 7.0).timesteps, 128
    angles = np.outer(times.astype(np.float64), 10_000.0 ** (-np.arange(half) / half))
    found = timestep_sinusoid(jnp.asarray(times), 2 * half)
    np.testing.assert_allclose(found, np.concatenate([np.cos(angles), np.sin(angles)], axis=1), atol=3e-7)
