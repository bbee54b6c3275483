import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkverse_jax.diffusion.denoise import CachingDenoiser, Denoiser, denoise, denoising_step
from talkverse_jax.diffusion.flow import make_schedule
from talkverse_jax.diffusion.guidance import CLASSIFIER_FREE
from talkverse_jax.families.talkverse.model import TalkVerse
from tests.diffusion.toy import (
    AFTER,
    BETWEEN,
    SCHEDULE,
    SIGMAS,
    CachingPull,
    HoldFirstFrames,
    Pull,
    drawn,
    noise,
    pull,
)


def euler(step, x, hold=lambda x, sigma, i, when: x):
    """The loop in plain words: `step` is the velocity at (x, sigma, i)."""
    for i, (sigma, following) in enumerate(zip(SIGMAS, SIGMAS[1:])):
        x = hold(x, sigma, i, "before")
        x = hold(x + (following - sigma) * step(x, sigma, i), following, i, "after")
    return x


def test_a_walk_is_a_loop_of_steps():
    model, calls = Pull(), []
    found = denoise(
        model,
        noise(),
        model.prepare(0.3),
        solver="euler",
        schedule=SCHEDULE,
        on_step=lambda index, count: calls.append((index, count)),
    )
    np.testing.assert_allclose(found, euler(lambda x, sigma, i: pull(x, 0.3, sigma), noise()), atol=1e-5)
    assert calls == [(i, 4) for i in range(4)]


def test_one_program_serves_all_solvers_steps_scales_and_clips():
    model, programs = Pull(), denoising_step.jitted()
    programs.clear_cache()
    for seed, (solver, steps, scale) in enumerate([("unipc", 5, 4.5), ("dpm++", 3, 2), ("euler", 2, 1.0)]):
        schedule = make_schedule(solver, steps, 5.0)
        kwargs = dict(solver=solver, schedule=schedule, guidance=CLASSIFIER_FREE, scales=scale)
        denoise(model, noise(seed), model.prepare(0.1, 0.2 * seed), **kwargs)
    assert programs._cache_size() == 1


def test_what_on_step_raises_passes_through_and_leaves_the_inputs_usable():
    class Cancelled(Exception):
        pass

    def stop(index, count):
        if index == 1:
            raise Cancelled

    model, x = Pull(), noise()
    inputs = (model, x, model.prepare(0.3))
    with pytest.raises(Cancelled):
        denoise(*inputs, solver="unipc", schedule=SCHEDULE, on_step=stop)
    first, second = (denoise(*inputs, solver="unipc", schedule=SCHEDULE) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(x, noise())


def test_parts_of_the_latents_are_held_before_the_call_and_after_the_update():
    model, keys, known = Pull(), jax.random.split(jax.random.key(5), 2), jnp.full((2, 1, 2, 2, 4), 0.7)
    programs = denoising_step.jitted()
    programs.clear_cache()

    def walk(known):
        return denoise(
            model,
            noise(),
            model.prepare(0.3),
            solver="euler",
            schedule=SCHEDULE,
            keys=keys,
            hold=HoldFirstFrames(known),
        )

    def hold(known):
        def of_step(x, sigma, i, when):
            if when == "before":
                return x.at[:, :1].set(known)
            return x.at[:, :1].set((1 - sigma) * known + sigma * drawn(keys, i, AFTER, known.shape))

        return of_step

    for values in (known, known - 1):
        found = walk(values)
        expected = euler(lambda x, sigma, i: pull(x, 0.3, sigma), noise(), hold(values))
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_array_equal(found[:, :1], values)  # no noise is left at the end
    assert programs._cache_size() == 1  # its arrays are arguments


def test_skipped_steps_use_what_the_last_full_step_left():
    model, computed = CachingPull(), ("all", "ends", "all", "ends")
    programs, kept = denoising_step.jitted(), {}
    programs.clear_cache()

    def velocity(x, sigma, i):
        if computed[i] == "all":
            kept["pull"] = pull(x, 0.3, 0)
        return kept["pull"] + sigma

    inputs = (model, noise(), model.prepare(0.3))
    found = denoise(*inputs, solver="euler", schedule=SCHEDULE, computed=computed)
    np.testing.assert_allclose(found, euler(velocity, noise()), atol=1e-5)
    assert programs._cache_size() == 2
    never = denoise(*inputs, solver="euler", schedule=SCHEDULE, computed=("all",) * 4)
    np.testing.assert_allclose(never, denoise(*inputs, solver="euler", schedule=SCHEDULE), atol=1e-6)
    assert np.abs(found - never).max() > 0.01


def test_guided_branches_each_have_a_cache():
    model, computed = CachingPull(), ("all", "all", "ends", "ends")
    kept = {}

    def velocity(x, sigma, i):
        if computed[i] == "all":
            kept["c"], kept["u"] = (pull(x, target, 0) for target in (0.3, -0.2))
        return kept["u"] + sigma + 4.5 * (kept["c"] - kept["u"])

    found = denoise(
        model,
        noise(),
        model.prepare(0.3, -0.2),
        solver="euler",
        schedule=SCHEDULE,
        guidance=CLASSIFIER_FREE,
        scales=4.5,
        computed=computed,
    )
    np.testing.assert_allclose(found, euler(velocity, noise()), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    "computed, message",
    [
        (("ends", "all", "all", "all"), "the first step computes all"),
        (("all",) * 3, "one for each of 4 steps"),
        (("all", "ends", "first", "all"), "blocks are left out where every step runs all branches"),
    ],
)
def test_walks_that_cannot_be_are_refused(computed, message):
    model = CachingPull()
    with pytest.raises(ValueError, match=message):
        denoise(model, noise(), model.prepare(0.3), solver="euler", schedule=SCHEDULE, computed=computed)


def test_renoising_is_the_students_formula():
    model, keys = Pull(), jax.random.split(jax.random.key(3), 2)
    x = noise()
    found = denoise(model, x, model.prepare(0.3), solver="renoise", schedule=SCHEDULE, keys=keys)
    for i, (sigma, following) in enumerate(zip(SIGMAS, SIGMAS[1:])):
        data = x - sigma * pull(x, 0.3, sigma)
        x = (1 - following) * data + following * drawn(keys, i, BETWEEN, x.shape)
    np.testing.assert_allclose(found, x, atol=1e-5)
    conditions = jax.tree.map(lambda target: target[1:], model.prepare(0.3))
    alone = denoise(model, noise()[1:], conditions, solver="renoise", schedule=SCHEDULE, keys=keys[1:])
    np.testing.assert_allclose(found[1:], alone, atol=1e-6)  # what is drawn for a sample depends on no other
    with pytest.raises(ValueError, match="give it keys"):
        denoise(model, x, model.prepare(0.3), solver="renoise", schedule=SCHEDULE)


@pytest.mark.parametrize("model", [TalkVerse, Pull])
def test_models_have_what_the_loop_calls(model):
    for name in ("prepare", "velocity"):
        assert inspect.isfunction(getattr(model, name)) and hasattr(Denoiser, name)
    assert hasattr(CachingDenoiser, "cached_velocity")
