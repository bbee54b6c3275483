"""A step of three networks: a generator and a critic that take turns, and a frozen teacher; against a plain loop."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from talkverse_jax.core import tree
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.training.checkpoint import Checkpoints, RunRecord
from talkverse_jax.training.network import Network, kept
from talkverse_jax.training.state import States, from_stored, start, start_abstract, stored
from talkverse_jax.training.step import Phase, Trained, TrainingStep

WIDTH, BATCH, EMA = 3, 4, 0.75
OPTIMIZERS = {"generator": optax.adam(1e-2), "critic": optax.sgd(5e-2, momentum=0.9)}
CYCLE = ["critic"] * 5 + ["generator"]


class Points(NamedTuple):
    x: np.ndarray
    weight: np.ndarray
    ids: np.ndarray


class Layer(nnx.Module):
    """y = tanh(x W)."""

    def __init__(self, kernel):
        self.kernel = nnx.Param(kernel)

    def __call__(self, x):
        return jnp.tanh(x @ self.kernel.get_value())


def kernel(seed: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal((WIDTH, WIDTH), np.float32))


KERNELS = {name: kernel(seed) for seed, name in enumerate(("generator", "critic", "teacher"))}


def noise(draw):
    return jax.vmap(lambda key: jax.random.normal(key, (WIDTH,)))(draw)


def critic_loss(models, batch, draw):
    made = models["generator"](batch.x + noise(draw))
    losses = jnp.square(models["critic"](made) - made).mean(-1)
    return losses, {"size": jnp.abs(made).max(-1)}


def generator_loss(models, batch, draw):
    made = models["generator"](batch.x + noise(draw))
    return jnp.square(models["critic"](made) - models["teacher"](made)).mean(-1), {}


def batch(number: int) -> Points:
    rng = np.random.default_rng([7, number])
    weight = np.ones(BATCH, np.float32)
    weight[-1] = number % 2  # of some batches the last slot is empty
    ids = np.stack([np.full(BATCH, number), np.arange(BATCH)], axis=1).astype(np.uint32)
    return Points(rng.standard_normal((BATCH, WIDTH), np.float32), weight, ids)


def make() -> tuple[TrainingStep, States]:
    networks, states = {}, {}
    for name, optimizer in OPTIMIZERS.items():
        graphdef, params, frozen, paths = tree.divide(Layer(jnp.copy(KERNELS[name])), lambda _: True)
        network = Network(graphdef, frozen, paths, dict.fromkeys(paths, "rest"), Layout())
        decay = EMA if name == "generator" else 0.0
        networks[name] = Trained(network, optimizer, decay)
        states[name] = start(params, optimizer, decay > 0)
    phases = [Phase("critic", critic_loss, 5), Phase("generator", generator_loss)]
    frozen = {"teacher": kept(Layer(KERNELS["teacher"]), Layout())}
    return TrainingStep(networks, phases, states, frozen=frozen, seed=5), states


def run(step: TrainingStep, states: States, updates: range) -> States:
    """Each update of two batches."""
    for number in updates:
        phase, sums = step.phase_of(number), None
        for part in (2 * number, 2 * number + 1):
            sums, _ = step.add_gradients(phase, states, batch(part), sums)
        states, metrics = step.update(phase, states, sums)
        assert metrics.applied
    return states


def kernels(states: States) -> dict[str, np.ndarray]:
    return {name: np.array(state.params["kernel"]) for name, state in states.items()}


def plain_loop(updates: int) -> tuple[dict[str, jax.Array], jax.Array]:
    """The same without any of our code: the kernels, and the generator's average."""
    params = {name: value for name, value in KERNELS.items()}
    moments = {name: optimizer.init(params[name]) for name, optimizer in OPTIMIZERS.items()}
    average = params["generator"]
    forward = lambda kernel, x: jnp.tanh(x @ kernel)  # noqa: E731

    def loss(value, name, points):
        now = params | {name: value}
        keys = [jax.random.fold_in(jax.random.fold_in(jax.random.key(5), a), b) for a, b in points.ids]
        made = forward(now["generator"], points.x + jnp.stack([jax.random.normal(key, (WIDTH,)) for key in keys]))
        wanted = made if name == "critic" else forward(now["teacher"], made)
        return (points.weight * jnp.square(forward(now["critic"], made) - wanted).mean(-1)).sum()

    for number in range(updates):
        name, parts = CYCLE[number % 6], (batch(2 * number), batch(2 * number + 1))
        total = sum(jax.grad(loss)(params[name], name, points) for points in parts)
        mean = total / sum(points.weight.sum() for points in parts)
        change, moments[name] = OPTIMIZERS[name].update(mean, moments[name], params[name])
        params[name] = params[name] + change
        if name == "generator":
            average = EMA * average + (1 - EMA) * params[name]
    return params, average


def test_turns_are_those_of_a_plain_loop():
    step, states = make()
    states = run(step, states, range(13))
    params, average = plain_loop(13)
    for name, value in kernels(states).items():
        np.testing.assert_allclose(value, params[name], rtol=1e-5, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(states["generator"].ema["kernel"], average, rtol=1e-5, atol=1e-6)
    assert states["critic"].ema is None
    assert {name: int(state.step) for name, state in states.items()} == {"generator": 2, "critic": 11}


def test_each_turn_moves_one_network():
    step, states = make()
    for number in range(12):
        before = kernels(states)
        states = run(step, states, range(number, number + 1))
        moved = [name for name, value in kernels(states).items() if not np.array_equal(value, before[name])]
        assert moved == [CYCLE[number % 6]], number
    np.testing.assert_array_equal(jax.tree.leaves(step.frozen["teacher"])[0], KERNELS["teacher"])


def test_what_a_loss_tells_of_its_samples():
    step, states = make()
    _, samples = step.add_gradients(0, states, batch(0))
    assert samples.loss[-1] == 0 and samples.known["size"].shape == (BATCH,)
    assert step.add_gradients(1, states, batch(0))[1].known == {}


@pytest.mark.parametrize("stop", [3, 6])  # among the critic's turns, and before them
def test_it_goes_on_between_turns(stop, tmp_path):
    step, states = make()
    expected = run(step, states, range(9))
    again, states = make()
    states = run(again, states, range(stop))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(stored(states), RunRecord(stop, 2 * stop, {}, (), {}, {}))
    checkpoints.wait()

    step, first = make()
    abstract = {
        name: start_abstract(first[name].params, trained.optimizer, trained.ema_decay > 0)
        for name, trained in step.networks.items()
    }
    found, record = checkpoints.latest(stored(abstract), {})
    checkpoints.close()
    ended = run(step, from_stored(found, abstract), range(record.step, 9))
    jax.tree.map(np.testing.assert_array_equal, ended, expected)


def test_of_one_network_its_state_is_stored_alone():
    _, states = make()
    one = {"dit": states["critic"]}
    assert stored(one) is one["dit"] and from_stored(stored(one), ["dit"]) == one
    assert from_stored(stored(states), states) == states
