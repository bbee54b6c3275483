"""The first frames of a clip, written over in every step."""

import jax
import jax.numpy as jnp
import numpy as np

from talkverse_jax.diffusion.denoise import denoise, steps_of
from talkverse_jax.families.multitalk.motion import Kept, Renoised
from talkverse_jax.families.multitalk.schedule import make_schedule
from tests.diffusion.toy import SHAPE, Pull, noise, pull

SCHEDULE = make_schedule(4, 7.0)
MASK = jnp.zeros((SHAPE[0], SHAPE[1], 1, 1, 1)).at[1, :2].set(1)  # the first sample is at its first clip
KNOWN = noise(3)
DRAWS = jnp.stack([noise(10 + draw) for draw in range(5)], axis=1)


def walk(hold, keys=None):
    model = Pull()
    return denoise(model, noise(), model.prepare(0.3), solver="euler", schedule=SCHEDULE, hold=hold, keys=keys)


def by_hand(before, after):
    """The original's loop; `before` and `after` give what the known frames are at a step."""
    x, times = noise(), np.append(SCHEDULE.timesteps, np.float32(0))
    for step, (time, following) in enumerate(zip(times, times[1:])):
        x = jnp.where(MASK > 0, before(step, x), x)
        x = x - pull(x, 0.3, time / 1000) * ((time - following) / 1000)
        x = jnp.where(MASK > 0, after(step, following / 1000), x)
    return x


def renoised(level, draw):
    return (1 - level) * KNOWN + level * DRAWS[:, draw]


def test_known_frames_are_under_fresh_noise_of_each_level():
    found = walk(Renoised(KNOWN, MASK, DRAWS))
    wanted = by_hand(
        lambda step, x: renoised(1.0, 0) if step == 0 else x, lambda step, level: renoised(level, step + 1)
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found[1, :2], KNOWN[1, :2])


def test_known_frames_are_clean_at_every_step():
    found = walk(Kept(KNOWN, MASK))
    np.testing.assert_allclose(found, by_hand(lambda *_: KNOWN, lambda *_: KNOWN), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found[1, :2], KNOWN[1, :2])


def test_a_sample_that_knows_nothing_is_as_without():
    for hold in (Renoised(KNOWN, MASK, DRAWS), Kept(KNOWN, MASK)):
        np.testing.assert_allclose(walk(hold)[0], walk(None)[0], rtol=1e-6, atol=1e-6)


def test_noise_is_drawn_from_each_sample_s_key():
    keys, other = jax.random.split(jax.random.key(0)), jax.random.split(jax.random.key(1))
    hold = Renoised(KNOWN, jnp.ones_like(MASK).at[:, 2].set(0))
    step = steps_of("euler", SCHEDULE)[0]
    for write in (hold.before, hold.after):
        one, two = write(noise(), step, keys), write(noise(), step, jnp.stack([keys[0], other[1]]))
        np.testing.assert_array_equal(one[0], two[0])
        assert np.abs(one[1] - two[1])[:2].max() > 0.1
