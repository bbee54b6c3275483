import jax
import jax.numpy as jnp
import numpy as np

from talkverse_jax.diffusion.denoise import denoise, denoising_step
from talkverse_jax.diffusion.guidance import CLASSIFIER_FREE, PLAIN, Guidance
from tests.diffusion.toy import SCHEDULE, SIGMAS, Pull, noise, pull


def _two_differences(velocities, scales, state):
    """Three branches: all, without text, without anything (MultiTalk)."""
    every, untold, nothing = velocities
    text, audio = scales
    return nothing + text * (every - untold) + audio * (untold - nothing), state


def _projected(velocities, scales, average):
    """Adaptive projected guidance: a running average of the difference, its part along the velocity removed."""
    conditional, unconditional = velocities
    scale, momentum = scales
    average = conditional - unconditional + momentum * average
    axes = (1, 2, 3, 4)
    norm = jnp.sqrt(jnp.sum(average**2, axes, keepdims=True))
    short = average * jnp.minimum(1, 2.0 / norm)
    unit = conditional / jnp.sqrt(jnp.sum(conditional**2, axes, keepdims=True))
    along = jnp.sum(short * unit, axes, keepdims=True) * unit
    return conditional + (scale - 1) * (short - along), average


THREE = Guidance(3, _two_differences)
PROJECTED = Guidance(2, _projected, start=jnp.zeros_like)


def walk(guidance, targets, scales, x=None):
    model = Pull()
    x = noise() if x is None else x
    conditions = model.prepare(*targets)
    return denoise(model, x, conditions, solver="euler", schedule=SCHEDULE, guidance=guidance, scales=scales)


def by_hand(guidance, targets, scales):
    """The same in eager steps."""
    x = noise()
    state = guidance.start(x)
    for sigma, following in zip(SIGMAS, SIGMAS[1:]):
        velocity, state = guidance.combine([pull(x, target, sigma) for target in targets], scales, state)
        x = x + (following - sigma) * velocity
    return x


def test_classifier_free_guidance_is_its_formula():
    conditional, unconditional = noise(1), noise(2)
    velocity, state = CLASSIFIER_FREE.combine([conditional, unconditional], jnp.float32(4.5), None)
    np.testing.assert_array_equal(velocity, unconditional + 4.5 * (conditional - unconditional))
    assert state is None
    found = walk(CLASSIFIER_FREE, (0.3, -0.2), 4.5)
    np.testing.assert_allclose(found, by_hand(CLASSIFIER_FREE, (0.3, -0.2), jnp.float32(4.5)), rtol=1e-5, atol=1e-4)


def test_one_branch_takes_no_scales():
    np.testing.assert_allclose(walk(PLAIN, (0.3,), ()), by_hand(PLAIN, (0.3,), ()), atol=1e-5)


def test_three_branches_and_two_scales_are_a_value():
    programs = denoising_step.jitted()
    programs.clear_cache()
    for scales in ((5.0, 4.0), (1.0, 2.5)):
        found = walk(THREE, (0.3, -0.2, 0.1), scales)
        np.testing.assert_allclose(found, by_hand(THREE, (0.3, -0.2, 0.1), scales), rtol=1e-5, atol=1e-4)
    assert programs._cache_size() == 1


def test_a_running_average_is_carried_through_the_steps():
    scales = (3.0, -0.75)
    found = walk(PROJECTED, (0.3, -0.2), scales)
    np.testing.assert_allclose(found, by_hand(PROJECTED, (0.3, -0.2), scales), rtol=1e-5, atol=1e-4)
    without = walk(PROJECTED, (0.3, -0.2), (3.0, 0.0))
    assert np.abs(found - without).max() > 1e-3
    again = walk(PROJECTED, (0.3, -0.2), scales)  # each clip starts with its own
    np.testing.assert_array_equal(found, again)


def test_samples_and_branches_lie_branch_by_branch():
    one = jax.tree.map(lambda x: x[:1], noise())
    found = walk(CLASSIFIER_FREE, (0.3, -0.2), 4.5)
    model = Pull()
    conditions = jax.tree.map(lambda x: x[::2], model.prepare(0.3, -0.2))
    alone = denoise(model, one, conditions, solver="euler", schedule=SCHEDULE, guidance=CLASSIFIER_FREE, scales=4.5)
    np.testing.assert_allclose(found[:1], alone, rtol=1e-6, atol=1e-5)
