"""The transformer on eight devices against the same on one: every way to split it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from talkverse_jax.core import tree
from talkverse_jax.models.talkverse.axes import AXES
from talkverse_jax.models.talkverse.model import TalkVerse
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.mesh import MeshConfig, make_mesh
from tests.models.test_talkverse import TINY, call, random_inputs
from tests.tiny import random_module

HEADS = 8
CONFIG = dataclasses.replace(
    TINY,
    trunk=dataclasses.replace(TINY.trunk, num_heads=HEADS, dim=96, ffn_dim=192, num_layers=6),
    audio_inject_layers=(0, 2, 4),
)
MESHES = (
    "data=2,context=4",
    "fsdp=8",
    "context=8",
    "context=8,ulysses=1",
    "context=8,ulysses=4",
    "tensor=8",
    "data=2,fsdp=2,tensor=2",
    "data=2,context=2,tensor=2",
    "fsdp=2,context=4,ulysses=2",
)


def layout_of(mesh: str) -> Layout:
    return Layout(make_mesh(MeshConfig.parse(mesh), jax.devices()[:8], HEADS))


def split(model, layout: Layout, scan: bool = False):
    """The same model under a layout."""
    place = layout.parameter_sharding(AXES)
    flat = tree.parameters(model)
    abstract = nnx.eval_shape(lambda: TalkVerse(CONFIG, rngs=nnx.Rngs(0), layout=layout, scan=scan))
    return tree.with_parameters(abstract, {p: jax.device_put(x, place(p, x.shape)) for p, x in flat.items()})


@functools.cache
def unsplit():
    model, inputs = random_module(TalkVerse, CONFIG), random_inputs(batch=2)
    return model, inputs, call(model, **inputs, timestep=jnp.array([300.0, 700.0]))


@pytest.mark.parametrize("mesh", MESHES)
def test_eight_devices_compute_what_one_does(mesh):
    model, inputs, expected = unsplit()
    found = call(split(model, layout_of(mesh)), **inputs, timestep=jnp.array([300.0, 700.0]))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("mesh", ["fsdp=2,tensor=4", "context=8"])
def test_a_scan_over_blocks_computes_what_the_loop_does(mesh):
    model, inputs, expected = unsplit()
    found = call(split(model, layout_of(mesh), scan=True), **inputs, timestep=jnp.array([300.0, 700.0]))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
