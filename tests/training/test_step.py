"""Updates: what is trained, what accumulation and empty slots change (nothing), and what stops one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkverse_jax.core import tree
from talkverse_jax.diffusion.loss import Dropouts, draw
from talkverse_jax.models.talkverse.config import TalkVerseConfig
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.training import lora
from talkverse_jax.training.optimizer import Rates, make_optimizer
from talkverse_jax.training.state import Settings, abstract, load_network, start
from talkverse_jax.training.step import Objective, TrainingStep, batch_losses
from talkverse_jax.training.strategy import OWN, Strategy, matches
from tests.sharded import error
from tests.training.samples import NO_DROPOUT, random_batch, some, tiny_config

CONFIG = tiny_config()
RATES = Rates(base=1e-3, warmup=0)
STRATEGIES = ("none", "minimal", "lora", "moderate", "aggressive", "full")


PLAIN = Objective(dropouts=NO_DROPOUT)


def begin(weights, name="minimal", *, objective=PLAIN, ema=0.0, rates=RATES, **settings):
    strategy = Strategy.of(name, CONFIG)
    settings = dict(rank=4, alpha=8.0, dtype="float32", remat="none") | settings
    network, params = load_network(weights, Settings(strategy, **settings), Layout())
    optimizer = make_optimizer(network.groups, rates)
    state = start(params, optimizer, ema > 0)
    return TrainingStep(network, optimizer, objective, state, ema), state


def by_path(step, params) -> dict[str, np.ndarray]:
    """Every parameter of the transformer, by path, in host memory."""
    return {path: np.array(x) for path, x in tree.parameters(step.network.model(params)).items()}


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_moves_its_own_parameters_and_no_others(tiny_weights, name):
    step, state = begin(tiny_weights, name)
    before, batch = by_path(step, state.params), random_batch(CONFIG, 2)
    for _ in range(2):  # an adapter's A moves only once B is not zero
        state, metrics = step.update(state, step.add_gradients(state.params, batch)[0])
        assert metrics.applied
    after = by_path(step, state.params)
    moved = {path for path in before if (before[path] != after[path]).any()}
    strategy = Strategy.of(name, CONFIG)
    assert moved == {path for path in before if strategy.trains(path)}
    assert state.step == 2


def test_the_parts_of_the_full_size_are_those_of_the_original():
    """Blocks 25 to 29, 20 to 29, 0 to 29; eight layers of thirty blocks."""
    config = TalkVerseConfig.talkverse_5b()
    first = {name: Strategy.of(name, config).first_block for name in STRATEGIES}
    assert first == dict(none=30, minimal=30, lora=30, moderate=25, aggressive=20, full=0)
    module, _ = abstract(config, Settings(Strategy.of("lora", config)), Layout())
    shapes = tree.abstract_parameters(module)
    pairs = lora.pairs(shapes)
    assert len(pairs) == 240
    assert shapes["blocks/29/ffn/linear_in/adapter/a"].shape == (3072, 128)
    assert not any("/v/" in path for path in pairs)


def test_accumulation_changes_nothing(tiny_weights):
    step, state = begin(tiny_weights)
    batch = random_batch(CONFIG, 4)
    whole, _ = step.add_gradients(state.params, batch)
    whole = jax.tree.map(np.array, whole)
    parts = None
    for part in (slice(0, 1), slice(1, 2), slice(2, 4)):
        parts, _ = step.add_gradients(state.params, some(batch, part), parts)
    for key, gradient in whole.gradients.items():
        assert error(parts.gradients[key], gradient) < 1e-5, key
    assert float(parts.weight) == 4 and float(parts.loss) == pytest.approx(float(whole.loss), rel=1e-6)


def test_an_empty_slot_counts_for_nothing(tiny_weights):
    step, state = begin(tiny_weights, objective=Objective(roi=True, dropouts=NO_DROPOUT))
    batch = random_batch(CONFIG, 2)
    alone = jax.tree.map(np.array, step.add_gradients(state.params, some(batch, slice(0, 1)))[0])
    keep = np.array([1, 0], np.uint8)
    empty = batch._replace(
        **{
            name: (x.T * keep).T.astype(x.dtype)
            for name, x in batch._asdict().items()
            if name not in ("null_text", "ids")
        }
    )
    both, samples = step.add_gradients(state.params, empty)
    assert float(both.weight) == 1 and float(samples.loss[1]) == 0
    for key, gradient in alone.gradients.items():
        assert error(both.gradients[key], gradient) < 1e-5, key


def test_what_is_random_depends_on_the_sample_alone(tiny_weights):
    step, state = begin(tiny_weights, objective=Objective(dropouts=Dropouts(0.5, 0.5, 0.5, 0.5), seed=3))
    batch = random_batch(CONFIG, 3)
    together = step.add_gradients(state.params, batch)[1]
    alone = step.add_gradients(state.params, some(batch, slice(2, 3)))[1]
    assert float(alone.loss[0]) == pytest.approx(float(together.loss[2]), rel=1e-5)
    assert int(alone.timestep[0]) == int(together.timestep[2])
    assert len({int(t) for t in together.timestep}) == 3
    later = step.add_gradients(state.params, batch._replace(ids=batch.ids + np.uint32([1, 0])))[1]
    assert (later.timestep != together.timestep).any()


def test_dropouts(tiny_weights):
    """A sample whose condition is dropped is as if it had been left out by hand."""
    step, state = begin(tiny_weights)
    batch = random_batch(CONFIG, 1)
    model, drawn = step.network.model(state.params), draw(0, batch.ids, batch.target.shape[1:], NO_DROPOUT)
    losses = jax.jit(lambda batch, drawn: batch_losses(model, batch, drawn, roi=False))
    plain = float(losses(batch, drawn)[0])
    for part in drawn.drop._fields:
        null = batch.null_text[None] if part == "text" else np.zeros_like(getattr(batch, part))
        by_hand = float(losses(batch._replace(**{part: null}), drawn)[0])
        dropped = drawn._replace(drop=drawn.drop._replace(**{part: np.ones(1, bool)}))
        assert float(losses(batch, dropped)[0]) == pytest.approx(by_hand, rel=1e-6)
        assert by_hand != pytest.approx(plain, rel=1e-4)


def test_how_often_conditions_are_dropped():
    ids = np.stack([np.zeros(4000), np.arange(4000)], axis=1).astype(np.uint32)
    dropped = draw(0, ids, (1,), Dropouts(0.1, 0.2, 0.3, 0.4)).drop
    for name, share in zip(dropped._fields, (0.1, 0.2, 0.3, 0.4)):
        assert float(getattr(dropped, name).mean()) == pytest.approx(share, abs=0.025)
    together = (dropped.text & dropped.audio).mean()
    assert float(together) == pytest.approx(0.02, abs=0.01), "they are drawn apart"


@pytest.mark.parametrize("limit, poison", [(1e-6, 1.0), (np.inf, np.nan), (np.inf, np.inf)])
def test_an_update_that_cannot_be_believed_changes_nothing(tiny_weights, limit, poison):
    step, state = begin(tiny_weights)
    before = jax.tree.map(np.array, state)
    batch = random_batch(CONFIG, 1)
    sums, _ = step.add_gradients(state.params, batch._replace(target=batch.target * np.float32(poison)))
    state, metrics = step.update(state, sums, limit)
    assert not metrics.applied
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.array, state), before)


def test_adam_against_the_formula_by_hand(tiny_weights):
    """Two updates of one tensor in each group, clipping included, in float64."""
    rates = Rates(base=1e-3, lora=10.0, scaled=5.0, warmup=2)
    step, state = begin(tiny_weights, "lora", rates=rates)
    batch, moments = random_batch(CONFIG, 2), {}
    expected = {key: np.array(x, np.float64) for key, x in state.params.items()}
    for update in range(3):
        sums, _ = step.add_gradients(state.params, batch)
        gradients = {key: np.array(x, np.float64) / 2 for key, x in sums.gradients.items()}
        for group, scale in (("lora", 10.0), ("scaled", 5.0), ("rest", 1.0)):
            keys = [key for key in gradients if step.network.groups[key] == group]
            norm = np.sqrt(sum((gradients[key] ** 2).sum() for key in keys))
            rate = 1e-3 * scale * min(1, update / 2)
            for key in keys:
                g = gradients[key] * min(1, 1 / norm)
                m, v = moments.get(key, (0, 0))
                m, v = moments[key] = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
                hat = m / (1 - 0.9 ** (update + 1)) / (np.sqrt(v / (1 - 0.999 ** (update + 1))) + 1e-8)
                expected[key] = expected[key] * (1 - rate * 0.01) - rate * hat
        state, metrics = step.update(state, sums)
        assert set(metrics.norms) == {"lora", "scaled", "rest"}
    for key, value in expected.items():
        assert error(state.params[key], value.astype(np.float32)) < 2e-4, key


def test_the_running_average(tiny_weights):
    step, state = begin(tiny_weights, ema=0.75)
    key, batch = "token_kind", random_batch(CONFIG, 1)
    expected = np.array(state.params[key])
    for _ in range(2):
        state, _ = step.update(state, step.add_gradients(state.params, batch)[0])
        expected = 0.75 * expected + 0.25 * np.array(state.params[key])
    np.testing.assert_allclose(state.ema[key], expected, rtol=1e-6)


def test_bfloat16_products_keep_float32_masters(tiny_weights):
    step, state = begin(tiny_weights, "lora", dtype="bfloat16")
    assert {x.dtype for x in state.params.values()} == {jnp.dtype("float32")}
    assert {x.dtype for x in jax.tree.leaves(step.network.frozen)} == {jnp.dtype("bfloat16")}
    wide, wide_state = begin(tiny_weights, "lora")
    batch = random_batch(CONFIG, 2)
    narrow_sums, _ = step.add_gradients(state.params, batch)
    wide_sums, _ = wide.add_gradients(wide_state.params, batch)
    assert {x.dtype for x in narrow_sums.gradients.values()} == {jnp.dtype("float32")}
    assert float(narrow_sums.loss) == pytest.approx(float(wide_sums.loss), rel=0.02)


def test_rematerialisation_changes_nothing(tiny_weights):
    batch, found = random_batch(CONFIG, 1), []
    for remat in ("none", "full"):
        step, state = begin(tiny_weights, remat=remat)
        found.append(step.add_gradients(state.params, batch)[0])
    for key, gradient in found[0].gradients.items():
        assert error(found[1].gradients[key], gradient) < 1e-5, key


def test_what_is_drawn_anew(tiny_weights):
    old = by_path(*[f(begin(tiny_weights)) for f in (lambda b: b[0], lambda b: b[1].params)])
    for beginning, fresh in (("adapter", OWN), ("all", ("*",))):
        step, state = begin(tiny_weights, beginning=beginning)
        new = by_path(step, state.params)
        for path in old:
            if not matches(path, fresh):
                np.testing.assert_array_equal(new[path], old[path])
            elif old[path].any() and path.endswith("kernel"):
                assert (new[path] != old[path]).any(), path
