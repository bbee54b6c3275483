"""Updates on eight devices against one: the same losses, gradients and states, each device with its part."""

import functools

import jax
import numpy as np
import pytest

from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.mesh import MeshConfig, make_mesh
from talkverse_jax.sharding.rules import TRAINING
from talkverse_jax.training.batch import TrainingBatch
from talkverse_jax.training.step import Objective
from tests.sharded import error
from tests.training.samples import begin, random_batch

# Masks and dropouts too: what is random depends on the sample alone.
OBJECTIVE = Objective(roi=True, seed=1)
slow = pytest.mark.slow


def layout_of(mesh: str) -> Layout:
    config = MeshConfig.parse(mesh)
    return Layout(make_mesh(config, jax.devices(), heads=2), TRAINING)


def put(layout: Layout, batch: TrainingBatch) -> TrainingBatch:
    whole = layout.put(batch.null_text)
    parts = {n: layout.put(x, "batch") for n, x in batch._asdict().items() if n != "null_text"}
    return TrainingBatch(**parts, null_text=whole)


def two_updates(strategy: str, layout: Layout, samples: int, remat: str):
    """Of the first the gradients and losses, and the state after both, in host memory; and shares of the state."""
    step, state = begin(strategy, layout, objective=OBJECTIVE, ema=0.5, remat=remat)
    batch, first = put(layout, random_batch(samples)), None
    for _ in range(2):
        sums, found = step.add_gradients(state.params, batch)
        first = first or jax.tree.map(np.array, (sums, found))
        shares = {key: x.addressable_shards[0].data.size / x.size for key, x in sums.gradients.items()}
        state, metrics = step.update(state, sums)
        assert metrics.applied
    for key, x in state.params.items():
        for other in (sums.gradients[key], state.ema[key]):
            assert other.sharding.is_equivalent_to(x.sharding, x.ndim), key
    large = [x for x in jax.tree.leaves(state.optimizer) if x.ndim > 1]
    assert {x.addressable_shards[0].data.size for x in large} <= {
        x.addressable_shards[0].data.size for x in state.params.values()
    }
    return first, jax.tree.map(np.array, state), shares


one_device = functools.cache(lambda strategy, samples: two_updates(strategy, Layout(), samples, "none")[:2])


@pytest.mark.parametrize(
    "mesh, strategy, samples, split",
    [
        ("data=2,fsdp=2,context=2", "lora", 8, 2),
        pytest.param("fsdp=8", "lora", 8, 8, marks=slow),
        pytest.param("data=8", "lora", 8, 1, marks=slow),
        pytest.param("fsdp=8", "full", 8, 8, marks=slow),
        pytest.param("data=2,fsdp=2,context=2", "full", 8, 2, marks=slow),
        pytest.param("fsdp=2,context=4,ulysses=2", "full", 8, 2, marks=slow),
        pytest.param("data=2,fsdp=2,tensor=2", "lora", 8, 2, marks=slow),
        pytest.param("data=4,tensor=2", "full", 8, 1, marks=slow),
    ],
)
def test_eight_devices_against_one(mesh, strategy, samples, split):
    (sums, found), state, shares = two_updates(strategy, layout_of(mesh), samples, "full")
    (want_sums, want_found), want_state = one_device(strategy, samples)
    np.testing.assert_array_equal(found.timestep, want_found.timestep)
    np.testing.assert_allclose(found.loss, want_found.loss, rtol=1e-5)
    for key, gradient in want_sums.gradients.items():
        assert error(sums.gradients[key], gradient) < 1e-5, key
    # On average: Adam divides by a gradient's own size, so the rounding of a tiny one is a step of 1e-3 or 1e-2.
    for name in ("params", "ema"):
        for key, value in getattr(want_state, name).items():
            assert np.abs(getattr(state, name)[key] - value).mean() < 1e-5, key
    kernels = [key for key in shares if key.endswith("self_attn/o/kernel") or key.endswith("adapter/a")]
    assert kernels and all(shares[key] <= 1 / split for key in kernels)
