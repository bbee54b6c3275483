"""Updates on eight devices against one: the same losses, gradients and states, each device with its part."""

import dataclasses
import functools
import pickle

import jax
import numpy as np
import pytest

from talkverse_jax.families.talkverse.axes import AXES
from talkverse_jax.families.talkverse.training import FlowMatching, TrainingBatch
from talkverse_jax.sharding.distributed import fetch
from talkverse_jax.sharding.layout import Layout, parameter_axes
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.rules import TRAINING
from tests.processes import free_address, run_together
from tests.sharded import error
from tests.training.samples import SMALL, begin, random_batch

# Both blocks alike, so that they are stacked.
CONFIG = dataclasses.replace(SMALL, audio_inject_layers=(0, 1))
# Masks and dropouts too: what is random depends on the sample alone.
LOSS = FlowMatching(roi=True)
slow = pytest.mark.slow


def layout_of(mesh: str) -> Layout:
    config = MeshConfig.parse(mesh)
    return Layout(make_mesh(config, jax.devices(), heads=2), TRAINING)


def put(layout: Layout, batch: TrainingBatch) -> TrainingBatch:
    whole = layout.put(batch.null_text)
    parts = {n: layout.put(x, "batch") for n, x in batch._asdict().items() if n != "null_text"}
    return TrainingBatch(**parts, null_text=whole)


def two_updates(strategy: str, layout: Layout, remat: str):
    """Of the first the gradients and losses, and the state after both, in host memory; and how its parameters are
    split."""
    step, state = begin(strategy, layout, config=CONFIG, loss=LOSS, seed=1, ema=0.5, remat=remat)
    places = {key: x.sharding for key, x in state.params.items()}
    batch, first = put(layout, random_batch(8)), None
    for _ in range(2):
        sums, found = step.add_gradients(state.params, batch)
        first = first or in_host_memory((sums, found))
        state, metrics = step.update(state, sums)
        assert metrics.applied
    # parameters, gradients, running averages and both of Adam's moments
    kept = [*state.params.items(), *sums.gradients.items(), *state.ema.items(), *moments(state)]
    assert len(kept) == 5 * len(places)
    for key, x in kept:
        assert x.sharding.is_equivalent_to(places[key], x.ndim), key
    return first, in_host_memory(state), state.params


def in_host_memory(arrays):
    return jax.tree.map(lambda x: np.array(fetch(x, everywhere=True)), arrays)


def moments(state):
    """Adam's, by their parameters' keys."""
    leaves = jax.tree_util.tree_leaves_with_path(state.optimizer)
    return [(path[-1].key, leaf) for path, leaf in leaves if getattr(path[-1], "key", None) in state.params]


def share(x: jax.Array) -> float:
    """The part of an array that one device holds."""
    return x.addressable_shards[0].data.size / x.size


one_device = functools.cache(lambda strategy: two_updates(strategy, Layout(), "none")[:2])


@pytest.mark.parametrize(
    "mesh, strategy, parts",  # of weights, gradients and moments
    [
        ("data=2,fsdp=2,context=2", "lora", 4),
        pytest.param("fsdp=8", "lora", 8, marks=slow),
        pytest.param("data=8", "lora", 1, marks=slow),
        pytest.param("fsdp=8", "full", 8, marks=slow),
        pytest.param("data=2,fsdp=2,context=2", "full", 4, marks=slow),
        pytest.param("fsdp=2,context=4,ulysses=2", "full", 8, marks=slow),
        pytest.param("data=2,fsdp=2,tensor=2", "lora", 2, marks=slow),
        pytest.param("data=4,tensor=2", "full", 1, marks=slow),
    ],
)
def test_eight_devices_against_one(mesh, strategy, parts):
    first, state, split = two_updates(strategy, layout_of(mesh), "full")
    check(first, state, one_device(strategy))
    wide = [x for key, x in split.items() if "width" in parameter_axes(AXES, key, x.ndim)]
    assert wide and all(share(x) <= 1 / parts for x in wide)


def check(first, state, expected) -> None:
    """The same losses, gradients and state."""
    (sums, found), ((want_sums, want_found), want_state) = first, expected
    np.testing.assert_array_equal(found.known["timestep"], want_found.known["timestep"])
    np.testing.assert_allclose(found.loss, want_found.loss, rtol=1e-5)
    for key, gradient in want_sums.gradients.items():
        assert error(sums.gradients[key], gradient) < 1e-5, key
    for (key, moment), (_, wanted) in zip(moments(state), moments(want_state), strict=True):
        assert error(moment, wanted) < 1e-4, key
    # On average: Adam divides by a gradient's own size, so the rounding of a tiny one is a step of 1e-3 or 1e-2.
    for name in ("params", "ema"):
        for key, value in getattr(want_state, name).items():
            assert np.abs(getattr(state, name)[key] - value).mean() < 1e-5, key


PROGRAM = """
import pickle, sys
from talkverse_jax.sharding import distributed
from tests.training.test_sharded_step import layout_of, two_updates

address, path, me = sys.argv[1:]
with distributed.session(address, 2, int(me), heartbeat_timeout=60):
    first, state, _ = two_updates("lora", layout_of("fsdp=4,context=2"), "full")
    if me == "0":
        with open(path, "wb") as file:
            pickle.dump((first, state), file)
"""


@slow
def test_two_processes_against_one_device(tmp_path):
    """Four devices each; both share all weights."""
    address, path = free_address(), tmp_path / "found.pickle"
    run_together(PROGRAM, *([address, path, me] for me in (0, 1)), within=500)
    check(*pickle.loads(path.read_bytes()), one_device("lora"))
