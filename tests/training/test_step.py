"""Updates: what is trained, what batching and empty slots change (nothing), and what stops one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkverse_jax.core import tree
from talkverse_jax.diffusion.loss import draw, sample_keys
from talkverse_jax.families.talkverse.training import Dropouts, FlowMatching, batch_losses
from talkverse_jax.training.optimizer import Rates
from tests.sharded import error
from tests.training.samples import NO_DROPOUT, begin, only, random_batch

cached = functools.cache(begin)  # compiled once; a state that is updated must be made anew


def sums_of(step, state, batch):
    sums, samples = step.add_gradients(state.params, batch)
    return jax.tree.map(np.array, sums), samples


def same_gradients(ours, reference, limit=1e-5):
    for key, gradient in reference.gradients.items():
        assert error(ours.gradients[key], gradient) < limit, key


def test_updates_move_what_is_trained_and_nothing_else():
    (step, _), (_, state) = cached(), begin()
    everything = lambda params: {  # noqa: E731
        path: np.array(x) for path, x in tree.parameters(step.network.model(params)).items()
    }
    before, trained = everything(state.params), {p for paths in step.network.paths.values() for p in paths}
    state, metrics = step.update(state, step.add_gradients(state.params, random_batch(2))[0])
    after = everything(state.params)
    assert metrics.applied and int(state.step) == 1
    assert {path for path in before if (before[path] != after[path]).any()} == trained
    assert sum("/adapter/" in path for path in trained) == 2 * 8 * 2


def test_how_samples_are_put_into_batches_changes_nothing():
    step, state = cached()
    batch = random_batch(2)
    together, samples = sums_of(step, state, batch)
    parts, first = step.add_gradients(state.params, only(batch, 0))
    parts, second = step.add_gradients(state.params, only(batch, 1), parts)
    same_gradients(parts, together)
    assert float(together.weight) == float(parts.weight) == 2
    assert float(parts.loss) == pytest.approx(float(together.loss), rel=1e-6)
    assert float(first.loss[1]) == float(second.loss[0]) == 0, "an empty slot"
    assert float(second.loss[1]) == pytest.approx(float(samples.loss[1]), rel=1e-6)


def test_what_is_random_depends_on_the_sample_alone():
    ids, dropouts = np.array([[0, 5], [0, 6], [1, 5]], np.uint32), Dropouts(0.5, 0.5, 0.5, 0.5)
    drawn = lambda seed, ids: draw(sample_keys(seed, jnp.asarray(ids)), (2, 4), dropouts)  # noqa: E731
    three, one = drawn(3, ids), drawn(3, ids[2:])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[2:], b), three, one)
    assert len({int(t) for t in three.timestep}) == 3
    assert (drawn(4, ids).noise != three.noise).all()


def test_dropouts():
    """A sample whose condition is dropped is as if it had been left out by hand."""
    step, state = cached()
    batch = random_batch(2)
    model, drawn = (
        step.network.model(state.params),
        draw(sample_keys(0, jnp.asarray(batch.ids)), batch.target.shape[1:], NO_DROPOUT),
    )
    losses = jax.jit(lambda batch, drawn: batch_losses(model, batch, drawn, roi=False))
    plain = losses(batch, drawn)
    for part in drawn.drop._fields:
        value = getattr(batch, part).copy()
        value[0] = batch.null_text if part == "text" else 0
        by_hand = losses(batch._replace(**{part: value}), drawn)
        first = drawn._replace(drop=drawn.drop._replace(**{part: np.array([True, False])}))
        np.testing.assert_allclose(losses(batch, first), by_hand, rtol=1e-6)
        assert float(by_hand[0]) != pytest.approx(float(plain[0]), rel=1e-5), part


def test_how_often_conditions_are_dropped():
    ids = np.stack([np.zeros(4000), np.arange(4000)], axis=1).astype(np.uint32)
    dropped = draw(sample_keys(0, jnp.asarray(ids)), (1,), Dropouts(0.1, 0.2, 0.3, 0.4)).drop
    for name, share in zip(dropped._fields, (0.1, 0.2, 0.3, 0.4)):
        assert float(getattr(dropped, name).mean()) == pytest.approx(share, abs=0.025)
    together = (dropped.text & dropped.audio).mean()
    assert float(together) == pytest.approx(0.02, abs=0.01), "they are drawn apart"


@pytest.mark.parametrize("limit, poison", [(1e-6, 1.0), (np.inf, np.nan), (np.inf, np.inf)])
def test_an_update_that_cannot_be_believed_changes_nothing(limit, poison):
    step, _ = cached()
    _, state = begin()
    before, batch = jax.tree.map(np.array, state), random_batch(2)
    sums, _ = step.add_gradients(state.params, batch._replace(target=batch.target * np.float32(poison)))
    state, metrics = step.update(state, sums, limit)
    assert not metrics.applied
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.array, state), before)


def test_adam_against_the_formula_by_hand():
    """Three updates with warm-up, every group clipped on its own, in float64."""
    step, state = begin(rates=Rates(base=1e-3, lora=10.0, scaled=5.0, warmup=2))
    batch, moments = random_batch(2), {}
    expected = {key: np.array(x, np.float64) for key, x in state.params.items()}
    for update in range(3):
        sums, _ = cached()[0].add_gradients(state.params, batch)
        gradients = {key: np.array(x, np.float64) / 2 for key, x in sums.gradients.items()}
        clipped = 0
        for group, scale in (("lora", 10.0), ("scaled", 5.0), ("rest", 1.0)):
            keys = [key for key in gradients if step.network.groups[key] == group]
            norm = np.sqrt(sum((gradients[key] ** 2).sum() for key in keys))
            rate, clipped = 1e-3 * scale * min(1, update / 2), clipped + (norm > 1)
            for key in keys:
                g = gradients[key] * min(1, 1 / norm)
                m, v = moments.get(key, (0, 0))
                m, v = moments[key] = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
                hat = m / (1 - 0.9 ** (update + 1)) / (np.sqrt(v / (1 - 0.999 ** (update + 1))) + 1e-8)
                expected[key] = expected[key] * (1 - rate * 0.01) - rate * hat
        state, metrics = step.update(state, sums)
        assert set(metrics.norms) == {"lora", "scaled", "rest"} and clipped
    for key, value in expected.items():
        assert error(state.params[key], value.astype(np.float32)) < 2e-4, key


def test_the_running_average():
    step, state = begin(ema=0.75)
    sums, _ = cached()[0].add_gradients(state.params, random_batch(2))
    expected = np.array(state.params["token_kind"])
    for _ in range(2):
        state, _ = step.update(state, sums)
        expected = 0.75 * expected + 0.25 * np.array(state.params["token_kind"])
    np.testing.assert_allclose(state.ema["token_kind"], expected, rtol=1e-6)


def test_bfloat16_products_keep_float32_masters():
    step, state = begin(dtype="bfloat16")
    assert {x.dtype for x in state.params.values()} == {jnp.dtype("float32")}
    assert {x.dtype for x in jax.tree.leaves(step.network.frozen)} == {jnp.dtype("bfloat16")}
    narrow, _ = sums_of(step, state, random_batch(2))
    wide, _ = sums_of(*cached(), random_batch(2))
    assert {x.dtype for x in narrow.gradients.values()} == {np.dtype("float32")}
    assert float(narrow.loss) == pytest.approx(float(wide.loss), rel=0.02)
    size = np.sqrt(sum((g**2).sum() for g in wide.gradients.values()))
    apart = np.sqrt(sum(((narrow.gradients[k] - g) ** 2).sum() for k, g in wide.gradients.items()))
    assert apart < 0.05 * size


def test_rematerialisation_and_masks():
    """What is computed again is the same; face and body change the loss."""
    batch = random_batch(2)
    plain, _ = sums_of(*cached(), batch)
    step, state = begin(remat="full", loss=FlowMatching(NO_DROPOUT, roi=True))
    nothing = batch._replace(face=batch.face * 0, body=batch.body * 0)
    same_gradients(sums_of(step, state, nothing)[0], plain)
    assert float(sums_of(step, state, batch)[0].loss) != pytest.approx(float(plain.loss), rel=5e-4)
