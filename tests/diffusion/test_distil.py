"""The numbers of distribution matching against plain NumPy, loop by loop, and against values by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkverse_jax.diffusion.distil import ScoreLevels, TeacherScales, pull, pulled

SHAPE = (2, 3, 2, 2, 4)
RNG = np.random.default_rng(0)
MADE, CRITIC, TEACHER = (RNG.standard_normal(SHAPE).astype(np.float32) for _ in range(3))
WEIGHTS = RNG.integers(0, 2, SHAPE[:-1]).astype(np.float32)


def slow_gradient(weights=None):
    """The DMD gradient of every number, divided by how many of its sample there are."""
    found = np.zeros(SHAPE)
    for sample in range(SHAPE[0]):
        far = [abs(a - b) for a, b in zip(MADE[sample].ravel().tolist(), TEACHER[sample].ravel().tolist())]
        total = SHAPE[-1] * (np.prod(SHAPE[1:-1]) if weights is None else weights[sample].sum())
        for place in np.ndindex(SHAPE[1:]):
            at = (sample, *place)
            share = 1 if weights is None else weights[at[:-1]]
            found[at] = share * (CRITIC[at] - TEACHER[at]) / (sum(far) / len(far)) / total
    return found


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_the_gradient_is_that_of_plain_loops(weights):
    def loss(made):
        return pulled(made, pull(made, CRITIC, TEACHER), weights).sum()

    np.testing.assert_allclose(jax.grad(loss)(MADE), slow_gradient(weights), rtol=1e-5, atol=1e-8)


def test_what_is_already_there_is_not_pulled():
    np.testing.assert_array_equal(pull(MADE, TEACHER, TEACHER), 0)
    np.testing.assert_array_equal(pull(TEACHER, TEACHER, TEACHER), 0)  # 0 / 0
    np.testing.assert_array_equal(pulled(MADE, jnp.zeros(SHAPE)), 0)


def test_losses_by_hand():
    made = jnp.zeros((1, 1, 1, 1, 2))
    teacher, critic = jnp.array([1.0, -3.0]).reshape(made.shape), jnp.array([2.0, 1.0]).reshape(made.shape)
    gradient = pull(made, critic, teacher)  # (1, 4) / mean(1, 3)
    np.testing.assert_allclose(gradient.ravel(), [0.5, 2.0])
    np.testing.assert_allclose(pulled(made, gradient), [0.5 * (0.25 + 4) / 2])


@pytest.mark.parametrize(
    "text, audio, parts, expected",
    [
        (1.0, 1.0, ("all",), [3.0]),
        (4.0, 4.0, ("all", "neither"), [1 + 4 * (3 - 1)]),
        (4.0, 2.0, ("all", "wordless", "neither"), [1 + 4 * (3 - 2.5) + 2 * (2.5 - 1)]),
    ],
)
def test_the_teacher_is_guided_by_words_and_sound_apart(text, audio, parts, expected):
    scales = TeacherScales(text, audio)
    assert scales.parts == parts
    said = {"all": 3.0, "wordless": 2.5, "neither": 1.0}
    branches = [jnp.full((1, 1, 1, 1, 1), said[part]) for part in parts]
    np.testing.assert_allclose(scales.guided(branches).ravel(), expected)


def test_levels_are_shifted_and_cut_off():
    keys = jax.random.split(jax.random.key(0), 2000)
    levels = ScoreLevels(5.0, 0.02, 0.98).draw(keys)
    even = jax.vmap(jax.random.uniform)(keys)
    np.testing.assert_allclose(levels, np.clip(5 * even / (1 + 4 * even), 0.02, 0.98), rtol=1e-6)
    assert levels.min() >= 0.02 and levels.max() == np.float32(0.98) and 0.7 < np.median(levels) < 0.9
