import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from talkverse_jax.core.errors import UserError
from talkverse_jax.pipelines import residency


@pytest.fixture
def host(monkeypatch):
    """A second device that plays the host's memory, beside a first one that plays the accelerator."""
    first, second = jax.devices()[:2]
    monkeypatch.setattr(residency, "host_device", lambda: second)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    return second


def test_an_offloaded_module_is_on_the_accelerator_only_inside_the_block(host):
    module = residency.to_host(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
    assert module.kernel.get_value().devices() == {host}
    with residency.resident(module, offload=True) as copy:
        kernel = copy.kernel.get_value()
        assert kernel.devices() == {jax.devices()[0]}
        np.testing.assert_allclose(copy(jnp.ones((1, 3)))[0], np.asarray(kernel).sum(0), atol=1e-6)
    assert kernel.is_deleted()
    assert not module.kernel.get_value().is_deleted()


def test_without_offload_the_module_is_the_same(host):
    module = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    with residency.resident(module, offload=False) as same:
        assert same is module


def test_a_jax_without_cpu_is_told_how_to_get_it(monkeypatch):
    def missing(backend):
        raise RuntimeError("unknown backend cpu")

    monkeypatch.setattr(jax, "local_devices", missing)
    with pytest.raises(UserError, match="set JAX_PLATFORMS="):
        residency.host_device()
