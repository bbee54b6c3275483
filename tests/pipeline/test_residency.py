import jax
import numpy as np
import pytest
from flax import nnx

from talkverse_jax.core.errors import UserError
from talkverse_jax.pipeline import residency


@pytest.fixture
def module():
    """A layer whose kernel is split over two devices."""
    mesh = jax.sharding.Mesh(jax.devices()[:2], "x")
    layer = nnx.Linear(4, 2, rngs=nnx.Rngs(0))
    return jax.device_put(layer, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x")))


def test_an_offloaded_module_is_on_the_accelerator_only_inside_the_block(module):
    away = residency.to_host(module)
    assert away.kernel.get_value().sharding.memory_kind == "pinned_host"
    with residency.resident(away, offload=True) as copy:
        kernel = copy.kernel.get_value()
        assert kernel.sharding == module.kernel.get_value().sharding
        assert kernel.sharding.memory_kind == "device"
        np.testing.assert_array_equal(kernel, module.kernel.get_value())
    assert kernel.is_deleted()
    assert not away.kernel.get_value().is_deleted()


def test_without_offload_the_module_is_the_same(module):
    with residency.resident(module, offload=False) as same:
        assert same is module


def test_a_jax_without_cpu_is_told_how_to_get_it(monkeypatch):
    def missing(backend):
        raise RuntimeError("unknown backend cpu")

    monkeypatch.setattr(jax, "local_devices", missing)
    with pytest.raises(UserError, match="set JAX_PLATFORMS="):
        residency.host_device()
