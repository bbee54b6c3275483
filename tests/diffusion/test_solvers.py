import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkverse_jax.diffusion.flow import make_schedule
from talkverse_jax.diffusion.solvers import advance, solver_coefficients, start
from talkverse_jax.parity.compare import run_bundle


@pytest.mark.parametrize("name", ["unipc_12", "dpmpp_12"])
def test_goldens(golden, name):
    found = run_bundle(golden(name), taps=True)
    assert max(c.max_rel for c in found) < 2e-6, [str(c) for c in found]


def _solve(solver, steps, velocity, x):
    schedule = make_schedule(solver, steps, shift=3.0)
    state = start(x)
    for i, row in enumerate(solver_coefficients(solver, schedule)):
        state = advance(state, velocity(state.sample, schedule.sigmas[i]), row)
    return np.asarray(state.sample)


@pytest.mark.parametrize("solver", ["unipc", "dpm++", "euler"])
def test_a_straight_flow_is_solved_exactly_in_any_number_of_steps(solver):
    """To one data point the velocity is (x - data) / sigma, and every solver must land on the data."""
    data, noise = jnp.array([0.3, -1.2]), jnp.array([1.5, 0.4])
    for steps in (1, 2, 3, 7):
        end = _solve(solver, steps, lambda x, sigma: (x - data) / sigma, noise)
        np.testing.assert_allclose(end, data, atol=1e-5)


def test_a_student_s_four_steps():
    schedule = make_schedule("renoise", 4, shift=5.0)
    np.testing.assert_allclose(schedule.timesteps, [1000, 937.5, 833.3333, 625], rtol=1e-6)  # Self-Forcing's, warped
    np.testing.assert_array_equal(make_schedule("renoise", 4, shift=1.0).timesteps, [1000, 750, 500, 250])
    for row, following in zip(solver_coefficients("renoise", schedule), [0.9375, 0.8333333, 0.625, 0]):
        np.testing.assert_allclose(row.predictor, [0, 1 - following, 0], rtol=1e-6)
        np.testing.assert_allclose(row.noise, following, rtol=1e-6)


def test_the_second_order_solvers_converge_faster_than_euler():
    """Normal data of variance 1/4: the flow's velocity is linear in x and its end is x / 2."""

    def velocity(x, sigma):
        alpha = 1 - sigma
        total = alpha**2 / 4 + sigma**2
        return x * (sigma - alpha / 4) / total

    x = jnp.array([1.0, -2.0])
    error = {}
    for solver in ("unipc", "dpm++", "euler"):
        error[solver] = [np.abs(_solve(solver, n, velocity, x) - x / 2).max() for n in (10, 40)]
    for solver in ("unipc", "dpm++"):
        assert error[solver][1] < error["euler"][1] / 3, error
        assert error[solver][1] < error[solver][0] / 4, error


def test_one_compiled_step_serves_every_solver_and_step():
    traces = []

    @jax.jit
    def compiled(state, row):
        traces.append(1)
        return advance(state, state.sample, row)

    for solver in ("unipc", "dpm++", "euler"):
        schedule = make_schedule(solver, 5, 5.0)
        state = start(jnp.ones((2, 3)))
        for row in solver_coefficients(solver, schedule):
            state = compiled(state, row)
    assert len(traces) == 1


def test_the_schedules_of_the_published_settings():
    schedule = make_schedule("unipc", 50, 5.0)
    assert schedule.timesteps[0] == 999 and schedule.sigmas[-1] == 0
    assert np.all(np.diff(schedule.sigmas) < 0)
    assert make_schedule("dpm++", 50, 5.0).timesteps[0] == 1000
