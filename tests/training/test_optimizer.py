"""Rates by the number of updates, and an optimizer whose state is smaller than the parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from talkverse_jax.core.errors import UserError
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.training.optimizer import Rates, make_optimizer
from talkverse_jax.training.options import Optimization
from talkverse_jax.training.state import start, start_abstract


def rates(count: int, **settings) -> list[float]:
    schedule = Rates(base=2.0, **settings).schedule("rest")
    return [float(np.asarray(schedule(jnp.int32(update)))) for update in range(count)]


def test_schedules_by_hand():
    assert rates(5, warmup=2) == [0, 1, 2, 2, 2]
    assert rates(3, warmup=0) == [2, 2, 2]
    half = 1 + np.sqrt(0.5)
    assert rates(8, warmup=2, shape="cosine", steps=6) == pytest.approx([0, 1, 2, half, 1, 2 - half, 0, 0], abs=1e-6)
    assert rates(4, warmup=0, shape="cosine", steps=2) == pytest.approx([2, 1, 0, 0], abs=1e-6)
    falls = [2, half, 1, 2 - half]
    assert rates(10, warmup=1, shape="restarts", steps=4) == pytest.approx([0, *falls, *falls, 2], abs=1e-6)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (dict(schedule="cosine"), "--schedule cosine: needs --schedule_steps or --max_steps"),
        (dict(schedule="cosine", max_steps=9, warmup_steps=9), "ends at step 9, before --warmup_steps 9 are over"),
        (dict(schedule_steps=9), "--schedule_steps belongs to --schedule cosine or restarts"),
    ],
)
def test_schedules_that_cannot_be(given, words):
    with pytest.raises(UserError, match=words):
        Optimization(**given)


SHAPES = {"stacked/kernel": (2, 256, 128), "square": (128, 128), "small": (64, 8), "bias": (128,)}
SPLIT = {"stacked/kernel": (None, "fsdp", None), "square": ("fsdp", None), "small": ("fsdp",), "bias": ("fsdp",)}


def gradients(number: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(number)
    return {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in SHAPES.items()}


def three_updates(name: str, place):
    """The parameters and the optimizer's state."""
    params = {key: jax.device_put(x, place(key)) for key, x in gradients(99).items()}
    rule = make_optimizer(dict.fromkeys(SHAPES, "rest"), Rates(base=1e-2, warmup=0), name)
    state = start(params, rule, ema=False)
    wanted = jax.tree.map(lambda leaf: leaf.sharding, start_abstract(params, rule, False).optimizer)

    def update(params, moments, new):
        changes, moments = rule.update(new, moments, params)
        return optax.apply_updates(params, changes), moments

    where = {key: x.sharding for key, x in params.items()}
    step, moments = jax.jit(update, out_shardings=(where, wanted)), state.optimizer
    for number in range(3):
        new = {key: jax.device_put(x, place(key)) for key, x in gradients(number).items()}
        params, moments = step(params, moments, new)
    return params, moments


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_eight_devices_against_one(name):
    mesh = make_mesh(MeshConfig.parse("fsdp=8"), jax.devices(), heads=8)
    params, moments = three_updates(name, lambda key: NamedSharding(mesh, PartitionSpec(*SPLIT[key])))
    expected, expected_moments = three_updates(name, lambda _: jax.devices()[0])
    for key, x in expected.items():
        np.testing.assert_allclose(params[key], x, rtol=1e-5, atol=1e-6)
        assert np.abs(np.asarray(x) - gradients(99)[key]).max() > 1e-3, "it has moved"
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), moments, expected_moments)
    for path, leaf in jax.tree_util.tree_leaves_with_path(moments):
        shape = SHAPES.get(getattr(path[-1], "key", ""))
        assert leaf.addressable_shards[0].data.size == leaf.size // (8 if shape == leaf.shape else 1), path


def test_adafactor_keeps_rows_and_columns():
    moments = make_optimizer(dict.fromkeys(SHAPES, "rest"), Rates(), "adafactor").init(gradients(0))
    sizes = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(moments):
        sizes.setdefault(getattr(path[-1], "key", ""), []).append(leaf.shape)
    assert sorted(sizes["stacked/kernel"]) == [(1,), (2, 128), (2, 256)]
    assert sorted(sizes["square"]) == [(1,), (128,), (128,)] and (64, 8) in sizes["small"]
