"""Blocks of int8, and blocks in host memory: on one device and on several."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

from talkverse_jax.core import tree
from talkverse_jax.families.multitalk.axes import AXES
from talkverse_jax.families.multitalk.components import COMPONENTS
from talkverse_jax.families.multitalk.model import MultiTalk
from talkverse_jax.sharding.layout import Layout, on_host
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.weights import int8
from tests.families.multitalk.small import SMALL, call, random_inputs
from tests.sharded import error
from tests.tiny import random_module


def rounded() -> dict[str, np.ndarray]:
    """The small model's parameters, the kernels of its blocks as int8."""
    values = {}
    for path, value in tree.parameters(random_module(MultiTalk, SMALL)).items():
        if path.startswith("blocks/") and path.endswith("/kernel"):
            made = int8.leaves(path, int8.rounded(np.asarray(value)))
            values |= {name: leaf.rows(slice(None)) for name, leaf in made.items()}
        else:
            values[path] = np.asarray(value)
    return values


def placed(values, products: str | None, layout: Layout = Layout(), scan: bool = True):
    """A model with these parameters where its layout has them."""
    model = COMPONENTS["dit"].abstract(SMALL, layout=layout, int8_products=products, scan=scan)
    device = SingleDeviceSharding(jax.devices()[0])
    place = layout.parameter_sharding(AXES) if layout.mesh else lambda *_: device
    place = on_host(place, tree.paths_on_host(model))
    assert tree.abstract_parameters(model).keys() == values.keys()
    values = {path: jax.device_put(value, place(path, value.shape)) for path, value in values.items()}
    return tree.with_parameters(model, values)


@functools.cache
def expected(products: str):
    inputs = random_inputs(rows=2, speakers=1) | {"speakers": None}  # of two, a last digit may turn who is seen
    return inputs, call(placed(rounded(), products), **inputs)


@pytest.mark.slow
def test_int8_is_its_kernels_multiplied_out():
    inputs, found = expected("float")
    floats = rounded()
    for path in [path for path in floats if int8.is_kernel(floats[path])]:
        floats[path] = np.asarray(int8.multiplied(floats[path], floats.pop(int8.scale_of(path)), jnp.float32))
    assert error(found, call(placed(floats, None), **inputs)) < 1e-5


@pytest.mark.slow
def test_products_of_int8_are_near():
    """By rounding the activations of a few layers of random numbers."""
    found = error(expected("int8")[1], expected("float")[1])
    assert 1e-4 < found < 0.05


@pytest.mark.parametrize(
    "mesh, products, resident",
    [
        pytest.param("data=2,tensor=2", "int8", None, marks=pytest.mark.slow),
        pytest.param("data=2,tensor=2", "float", 1, marks=pytest.mark.slow),
        pytest.param("fsdp=2,context=2", "float", 1, marks=pytest.mark.slow),
        ("fsdp=2,tensor=2", "int8", 1),
    ],
)
def test_several_devices_compute_what_one_does(mesh, products, resident):
    inputs, single = expected(products)
    layout = Layout(make_mesh(MeshConfig.parse(mesh), jax.devices()[:4], 4), resident=resident)
    # a last digit that differs may be rounded to another of 127 steps
    limit = 1e-5 if products == "float" else 5e-3
    assert error(call(placed(rounded(), products, layout), **inputs), single) < limit


@pytest.mark.parametrize("scan", [pytest.param(False, marks=pytest.mark.slow), True])
def test_one_device_streams_int8(scan):
    inputs, single = expected("float")
    assert error(call(placed(rounded(), "float", Layout(resident=0), scan), **inputs), single) < 1e-5
