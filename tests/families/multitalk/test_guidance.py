"""Guidance of three branches and of two, plain and projected, against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkverse_jax.families.multitalk.guidance import GuidanceScales, guidance

SCALES = GuidanceScales(5.0, 4.0, -0.75, 55.0)
SHAPE = (2, 5, 12, 10, 16)


def steps_of(branches: int, steps: int = 3) -> np.ndarray:
    """Velocities of some steps; the second sample's differ far more than the first's, and are cut."""
    rng = np.random.default_rng(0)
    common = 0.5 + rng.standard_normal((steps, 1, *SHAPE))
    own = rng.standard_normal((steps, branches, *SHAPE)) * np.array([0.05, 2.0]).reshape(2, 1, 1, 1, 1)
    return (common + own).astype(np.float32)


def walk(found, velocities):
    combine, state, guided = jax.jit(found.combine), found.start(velocities[0, 0]), []
    for branches in velocities:
        velocity, state = combine(list(branches), SCALES, state)
        guided.append(velocity)
    return np.stack(guided)


def projected(difference, velocity, longest):
    """One sample's."""
    difference = difference * min(1.0, longest / np.linalg.norm(difference))
    unit = velocity / np.linalg.norm(velocity)
    return difference - (difference * unit).sum() * unit


def expected(velocities, text_guided):
    """APG sample by sample."""
    guided = np.zeros((len(velocities), *SHAPE))
    for sample in range(SHAPE[0]):
        text = audio = 0
        for step, branches in enumerate(velocities[:, :, sample].astype(np.float64)):
            full, silent = branches[0], branches[-1]
            guided[step, sample] = full
            if text_guided:
                text = full - branches[1] + SCALES.momentum * text
                guided[step, sample] += (SCALES.text - 1) * projected(text, full, SCALES.longest)
            audio = branches[-2] - silent + SCALES.momentum * audio
            guided[step, sample] += (SCALES.audio - 1) * projected(audio, full, SCALES.longest)
    return guided


def test_words_and_sound_guide_by_their_own_scales():
    full, wordless, silent = steps_of(3, 1)[0]
    (found,) = walk(guidance(3, False), steps_of(3, 1))
    np.testing.assert_allclose(found, silent + 5 * (full - wordless) + 4 * (wordless - silent), rtol=1e-5, atol=1e-5)


def test_two_branches_are_guided_by_the_sound_alone():
    full, silent = steps_of(2, 1)[0]
    (found,) = walk(guidance(2, False), steps_of(2, 1))
    np.testing.assert_allclose(found, silent + 4 * (full - silent), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("text_guided", [True, False])
def test_projected_guidance_is_that_of_float64_for_each_sample(text_guided):
    velocities = steps_of(3 if text_guided else 2)
    found, wanted = walk(guidance(3 if text_guided else 2, True), velocities), expected(velocities, text_guided)
    for sample in range(SHAPE[0]):
        error = np.linalg.norm((found - wanted)[:, sample]) / np.linalg.norm(wanted[:, sample])
        assert error < 1e-6


def test_without_a_limit_differences_keep_their_length():
    found = guidance(2, True)
    velocities = list(map(jnp.asarray, steps_of(2, 1)[0]))
    free, _ = found.combine(velocities, SCALES._replace(longest=0.0), found.start(velocities[0]))
    wide, _ = found.combine(velocities, SCALES._replace(longest=1e9), found.start(velocities[0]))
    np.testing.assert_array_equal(free, wide)
    cut, _ = found.combine(velocities, SCALES, found.start(velocities[0]))
    assert np.abs(free - cut)[1].max() > 1


def test_a_projection_of_millions_of_numbers_keeps_float32_s_digits():
    rng = np.random.default_rng(1)
    full = (rng.standard_normal((1, 21, 80, 80, 16)) + 0.7).astype(np.float32)
    silent = (0.7 * full - 0.01 * rng.standard_normal(full.shape)).astype(np.float32)
    found = guidance(2, True)
    scales = GuidanceScales(1.0, 2.0)
    guided, _ = jax.jit(found.combine)([full, silent], scales, found.start(jnp.asarray(full)))
    wanted = full + projected(full.astype(np.float64) - silent, full.astype(np.float64), 1e9)
    assert np.linalg.norm(guided - wanted) / np.linalg.norm(wanted) < 1e-6
