"""What runs on a TPU is compiled for one: XLA:TPU needs no device, only libtpu (`make test-slow` installs it)."""

import importlib.util
import os

import jax
import jax.numpy as jnp
import pytest

from talkverse_jax.diffusion.sample_loop import denoising_step
from talkverse_jax.diffusion.solvers import SolverState, StepCoefficients
from talkverse_jax.pipelines.components import COMPONENTS
from talkverse_jax.pipelines.long_video import decode, encode, prepare

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed"),
]

GB = 1e9


@pytest.fixture(scope="module")
def one_chip():
    """A sharding on one v6e chip (32 GB) that need not exist."""
    from jax.experimental import topologies

    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # only compiles; another process may too
    topology = topologies.get_topology_desc("v6e:1x1", platform="tpu", chips_per_host_bounds=[1, 1, 1])
    return jax.sharding.SingleDeviceSharding(topology.devices[0])


def _compile(function, sharding, *args, **static):
    """Compile for the chip; gigabytes of arguments and of temporaries."""
    place = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)  # noqa: E731
    args = jax.tree.map(place, args)
    compiled = jax.jit(function, static_argnames=tuple(static)).lower(*args, **static).compile()
    memory = compiled.memory_analysis()
    return memory.argument_size_in_bytes / GB, memory.temp_size_in_bytes / GB


def _float(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


@pytest.mark.parametrize("height, width", [(640, 640), (1280, 704)])
def test_a_clip_of_the_published_size_fits_a_32_gb_chip(one_chip, height, width):
    component, (h, w) = COMPONENTS["dit"], (height // 16, width // 16)
    config = component.real_size()
    model = component.abstract(config, jnp.bfloat16)
    inputs = (
        _float(1, 512, 4096),
        _float(1, 512, 4096),
        _float(1, 120, 25, 1024),
        _float(1, 1, h, w, 48),
        _float(1, 19, h, w, 48),
    )
    conditions = jax.eval_shape(lambda *x: prepare.__wrapped__(*x, guided=True), model, *inputs)
    state = SolverState(*[_float(1, 30, h, w, 48)] * 4)
    row = StepCoefficients(_float(), _float(5), _float(3))
    held, temporary = _compile(
        denoising_step.__wrapped__, one_chip, model, state, _float(), row, conditions, _float()
    )
    print(f"step at {width}x{height}: arguments {held:.2f} GB, temporaries {temporary:.2f} GB")
    assert held + temporary < 32
    held, temporary = _compile(prepare.__wrapped__, one_chip, model, *inputs, guided=True)
    print(f"prepare: arguments {held:.2f} GB, temporaries {temporary:.2f} GB")
    assert held + temporary < 32


def test_the_vae_of_the_published_size_fits_beside_it(one_chip):
    """Seven minutes on two cores: XLA:TPU takes 5 to 10 s for each of the decoder's convolutions."""
    component, (height, width), (h, w) = COMPONENTS["vae"], (640, 640), (40, 40)
    vae = component.abstract(component.real_size())
    held, temporary = _compile(
        decode.__wrapped__, one_chip, vae, _float(1, 19, h, w, 48), _float(1, 30, h, w, 48)
    )
    print(f"decode at {width}x{height}: arguments {held:.2f} GB, temporaries {temporary:.2f} GB")
    assert held + temporary < 32 - 11.5
    held, temporary = _compile(encode.__wrapped__, one_chip, vae, _float(1, 73, height, width, 3))
    print(f"encode at {width}x{height}: arguments {held:.2f} GB, temporaries {temporary:.2f} GB")
    assert held + temporary < 32 - 11.5
