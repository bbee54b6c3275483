"""UniPC, DPM-Solver++, Euler and re-noising as one linear multistep formula.

With x the sample, m = x - sigma v the data it predicts, and m1, m2 the two predictions before it, every one
of these solvers does

    corrected = c . (x, last corrected, m, m1, m2)
    next      = p . (corrected, m, m1) [+ n noise, fresh in each step]

with numbers that depend on the noise levels alone. They are computed here in float64 once, and one compiled
step serves every solver and every step.

Re-noising (`renoise`) is how a student of few steps is sampled: next = (1 - sigma') m + sigma' noise, sigma' the
level of the next step (DMD2: Yin et al. 2024, arXiv:2405.14867, section 4.5).

Sources: UniPC (Zhao et al. 2023, arXiv:2302.04867, B(h) = exp(h) - 1, data prediction, order 2);
DPM-Solver++ (Lu et al. 2022, arXiv:2211.01095, 2M, midpoint).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from talkverse_jax.diffusion.flow import Schedule
from talkverse_jax.diffusion.names import SolverName


class SolverState(NamedTuple):
    """What a step hands to the next one; all of the sample's shape, float32."""

    sample: Float[Array, "..."]
    corrected: Float[Array, "..."]
    data1: Float[Array, "..."]
    data2: Float[Array, "..."]


class StepCoefficients(NamedTuple):
    """The numbers of one step.

    Attributes:
      sigma, following: the noise level of the step and of the next one.
      corrector, predictor: weights.
      noise: of fresh noise; None of a solver that adds none.
    """

    sigma: Float[Array | np.ndarray, ""]
    following: Float[Array | np.ndarray, ""]
    corrector: Float[Array | np.ndarray, " 5"]
    predictor: Float[Array | np.ndarray, " 3"]
    noise: Float[Array | np.ndarray, ""] | None = None


def start(noise: Float[Array | np.ndarray, "..."]) -> SolverState:
    """The state before the first step (four arrays of its own: a compiled step may reuse them)."""
    noise = jnp.array(noise, jnp.float32)
    return SolverState(noise, *(jnp.zeros_like(noise) for _ in range(3)))


def advance(
    state: SolverState,
    velocity: Float[Array, "..."],
    coefficients: StepCoefficients,
    keys: Key[Array, " B"] | None = None,
) -> SolverState:
    """One step, given the velocity at `state.sample`.

    Args:
      keys: of each sample's fresh noise, where the solver adds some.
    """
    data = state.sample - coefficients.sigma * velocity
    corrected = _combine(coefficients.corrector, state.sample, state.corrected, data, state.data1, state.data2)
    following = _combine(coefficients.predictor, corrected, data, state.data1)
    if coefficients.noise is not None:
        if keys is None:
            raise ValueError("this solver adds noise: give it keys")
        following += coefficients.noise * fresh_noise(keys, following.shape)
    return SolverState(following, corrected, data, state.data1)


def adds_noise(solver: SolverName) -> bool:
    """Whether the solver's steps draw noise, so that a walk needs keys."""
    return solver == "renoise"


def fresh_noise(keys: Key[Array, " B"], shape: tuple[int, ...]) -> Float[Array, "B ..."]:
    """Normal numbers, each sample's by its own key; `shape` has the samples first."""
    return jax.vmap(lambda key: jax.random.normal(key, shape[1:], jnp.float32))(keys)


def _combine(weights: Float[Array | np.ndarray, " n"], *terms: Float[Array, "..."]) -> Float[Array, "..."]:
    total = weights[0] * terms[0]
    for weight, term in zip(weights[1:], terms[1:]):
        total += weight * term
    return total


def solver_coefficients(solver: SolverName, schedule: Schedule) -> list[StepCoefficients]:
    """The coefficients of every step. A schedule's later part alone starts afresh: first order, uncorrected."""
    table = []
    for i in range(schedule.steps):
        corrector = np.array([1.0, 0, 0, 0, 0])
        if solver == "unipc" and i > 0:
            corrector = _unipc_corrector(schedule.sigmas, i, order=_unipc_order(schedule, i - 1))
        sigma, following = schedule.sigmas[i : i + 2]
        noise = [following] if adds_noise(solver) else []
        table.append((sigma, following, corrector, _PREDICTORS[solver](schedule, i), *noise))
    return [StepCoefficients(*(np.asarray(part, np.float32) for part in row)) for row in table]


def _log_snr(sigma: float) -> float:
    """lambda = log(alpha / sigma), alpha = 1 - sigma; infinite at both ends."""
    with np.errstate(divide="ignore"):
        return float(np.log(1 - sigma) - np.log(sigma))


def _first_order(sigma: float, following: float) -> np.ndarray:
    """Exponential integrator of order 1, weights of (x, m)."""
    ratio = following / sigma
    return np.array([ratio, (1 - following) - ratio * (1 - sigma)])


def _euler_predictor(schedule: Schedule, i: int) -> np.ndarray:
    # a straight path: Euler's step and the first-order exponential integrator are the same
    return np.append(_first_order(*schedule.sigmas[i : i + 2]), 0.0)


def _renoise_predictor(schedule: Schedule, i: int) -> np.ndarray:
    return np.array([0.0, 1 - schedule.sigmas[i + 1], 0.0])


def _dpm_predictor(schedule: Schedule, i: int) -> np.ndarray:
    weights = np.append(_first_order(*schedule.sigmas[i : i + 2]), 0.0)
    if i == 0 or i == schedule.steps - 1:
        return weights
    before, now, after = (_log_snr(sigma) for sigma in schedule.sigmas[i - 1 : i + 2])
    if np.isinf(before):
        return weights  # the difference quotient over an infinite stretch of lambda is zero
    slope = 0.5 * weights[1] * (after - now) / (now - before)
    return weights + np.array([0.0, slope, -slope])


def _unipc_order(schedule: Schedule, i: int) -> int:
    return 1 if i == 0 or i == schedule.steps - 1 else 2


def _unipc_predictor(schedule: Schedule, i: int) -> np.ndarray:
    weights = np.append(_first_order(*schedule.sigmas[i : i + 2]), 0.0)
    if _unipc_order(schedule, i) == 1:
        return weights
    before, now, after = (_log_snr(sigma) for sigma in schedule.sigmas[i - 1 : i + 2])
    ratio = (before - now) / (after - now)
    slope = (1 - schedule.sigmas[i + 1]) * np.expm1(now - after) * 0.5 / ratio
    return weights + np.array([0.0, slope, -slope])


_PREDICTORS = {
    "unipc": _unipc_predictor,
    "dpm++": _dpm_predictor,
    "euler": _euler_predictor,
    "renoise": _renoise_predictor,
}


def _unipc_corrector(sigmas: np.ndarray, i: int, order: int) -> np.ndarray:
    """Weights of (x, last corrected, m, m1, m2) that take the step to level i again, knowing m there."""
    before, now = _log_snr(sigmas[i - 1]), _log_snr(sigmas[i])
    step = now - before
    alpha_b = (1 - sigmas[i]) * np.expm1(-step)  # alpha B(h)
    last, data1 = _first_order(sigmas[i - 1], sigmas[i])
    if order == 1:
        return np.array([0.0, last, -0.5 * alpha_b, data1 + 0.5 * alpha_b, 0.0])
    ratio = (_log_snr(sigmas[i - 2]) - before) / step
    phi1 = np.expm1(-step)
    phi2 = phi1 / -step - 1
    phi3 = phi2 / -step - 0.5
    older, newer = np.linalg.solve([[1.0, 1.0], [ratio, 1.0]], [phi2 / phi1, 2 * phi3 / phi1])
    return np.array(
        [
            0.0,
            last,
            -alpha_b * newer,
            data1 + alpha_b * (newer + older / ratio),
            -alpha_b * older / ratio,
        ]
    )
