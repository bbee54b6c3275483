import jax
import numpy as np
import pytest

from talkverse_jax.diffusion.denoise import denoise, denoising_step
from talkverse_jax.diffusion.flow import make_schedule
from talkverse_jax.diffusion.guidance import CLASSIFIER_FREE
from talkverse_jax.diffusion.sparing import Walk, spare
from tests.diffusion.toy import SCHEDULE, SIGMAS, Pull, noise, pull


class BranchingPull(Pull):
    """Can run its first branch alone."""

    def first_rows(self, conditions, rows):
        return jax.tree.map(lambda x: x[:rows], conditions)


def line(older, newer, sigma):
    """Through (sigma, value) pairs."""
    (s0, y0), (s1, y1) = older, newer
    return y1 + (sigma - s1) / (s1 - s0) * (y1 - y0)


def test_what_a_step_leaves_out_lies_on_the_line_through_the_last_two():
    model, scale = BranchingPull(), 4.5
    computed, x = ["all", "all", "first", "none"], noise()
    added, guided = [], []
    for kind, sigma, following in zip(computed, SIGMAS, SIGMAS[1:]):
        first, other = pull(x, 0.3, sigma), pull(x, -0.2, sigma)
        if kind == "all":
            velocity = other + scale * (first - other)
            added.append((sigma, velocity - first))
        elif kind == "first":
            velocity = first + line(*added[-2:], sigma)
        else:
            velocity = line(*guided[-2:], sigma)
        if kind != "none":
            guided.append((sigma, velocity))
        x = x + (following - sigma) * velocity
    how = dict(solver="euler", schedule=SCHEDULE, guidance=CLASSIFIER_FREE, scales=scale)
    found = denoise(model, noise(), model.prepare(0.3, -0.2), computed=computed, **how)
    np.testing.assert_allclose(found, x, rtol=1e-4, atol=1e-4)


def test_behind_a_single_step_its_own_values_are_used_again():
    model = Pull()
    found = denoise(
        model, noise(), model.prepare(0.3), solver="euler", schedule=SCHEDULE, computed=["all", "none", "none", "none"]
    )
    np.testing.assert_allclose(found, noise() - pull(noise(), 0.3, 1.0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("solver", ["unipc", "dpm++"])
def test_a_line_is_better_than_fewer_steps(solver):
    model = Pull()

    def walk(steps, **how):
        schedule = make_schedule(solver, steps, 5.0)
        return denoise(model, noise(), model.prepare(0.3), solver=solver, schedule=schedule, **how)

    full, spared = walk(20), walk(20, computed=spare(20, model_every=2, window=(0.2, 1.0)))
    assert np.abs(spared - full).max() < 0.25 * np.abs(walk(12) - full).max()  # 12 of 20 run the model


def test_each_kind_of_step_is_one_program():
    model, programs = BranchingPull(), denoising_step.jitted()
    programs.clear_cache()
    for seed in range(2):
        schedule = make_schedule("unipc", 12, 5.0)
        computed = spare(12, model_every=2, guide_every=2, window=(0.2, 0.9 - 0.1 * seed))
        how = dict(guidance=CLASSIFIER_FREE, scales=4.5, computed=computed)
        denoise(model, noise(seed), model.prepare(0.1, 0.2), solver="unipc", schedule=schedule, **how)
    assert programs._cache_size() == 3


def test_what_is_spared():
    assert spare(4) == ["all"] * 4
    assert spare(8, model_every=2, window=(0.25, 0.75)) == ["all", "all", "none", "all", "none", "all", "all", "all"]
    assert spare(6, guide_every=3, window=(0, 1)) == ["all", "first", "first", "all", "first", "first"]
    both = spare(10, model_every=2, guide_every=2, window=(0.2, 1))
    assert both == ["all", "all", "none", "first", "none", "all", "none", "first", "none", "all"]
    assert spare(1, model_every=3) == ["all"]


def test_a_walk_that_spares_nothing_is_the_plain_one():
    walk = Walk(CLASSIFIER_FREE, spare(5))
    assert walk.guided("all") is CLASSIFIER_FREE and walk.scales(4.5, (1.0, 1.0)) == 4.5
