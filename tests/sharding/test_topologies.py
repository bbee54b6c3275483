"""The table of machines: names, counts, and what libtpu makes of each."""

import importlib.util

import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.sharding import topologies
from talkverse_jax.sharding.topologies import TOPOLOGIES, find

TPUS = [name for name, topology in TOPOLOGIES.items() if topology.libtpu]
needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")


@pytest.mark.parametrize(
    "name, chips, devices",
    [("v5e-256", 256, 256), ("v5p-8", 4, 4), ("v5p-16", 8, 8), ("v5p-64", 32, 32), ("tpu7x-8", 4, 8), ("H200-8", 8, 8)],
)
def test_a_name_counts_what_google_counts(name, chips, devices):
    assert (find(name).chips, find(name).devices) == (chips, devices)


@needs_libtpu
@pytest.mark.parametrize("name", TPUS)
def test_libtpu_knows_the_slice(name):
    topology = find(name)
    found = topologies.devices(topology)
    assert len(found) == topology.devices
    assert {device.device_kind for device in found} == {topology.generation.device_kind}


@needs_libtpu
@pytest.mark.parametrize("name", ["v5e-4", "v5p-8", "v6e-1", "tpu7x-8"])
def test_the_compiler_has_as_much_memory_as_the_table_says(name):
    """A program one gigabyte larger than the limit fails, and the error names the limit."""
    import jax
    import jax.numpy as jnp

    topology = find(name)
    sharding = jax.sharding.SingleDeviceSharding(topologies.devices(topology)[0])
    rows = (topology.generation.hbm // 2 + 2**30) // 4096
    x = jax.ShapeDtypeStruct((rows, 1024), jnp.float32, sharding=sharding)
    with pytest.raises(jax.errors.JaxRuntimeError) as error:
        jax.jit(lambda x: x + 1).lower(x).compile()
    assert f"available HBM ({topology.generation.hbm / topologies.GIB:.2f}G)" in str(error.value)


def test_names_in_either_case():
    assert find("V6E-8") is find("v6e-8")
    assert find("h100-8") is find("H100-8")


@pytest.mark.parametrize(
    "wrong, right",
    [("v6e-24", "v6e-16 or v6e-32 or v6e-64"), ("v5-e8", "v5e-8"), ("H100", "H100-1 or H100-8"), ("tpu7-8", "tpu7x-8")],
)
def test_an_unknown_name_is_told_the_nearest(wrong, right):
    with pytest.raises(UserError, match=right):
        find(wrong)


def test_without_libtpu_a_tpu_is_an_error(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install libtpu"):
        topologies.devices(find("v6e-8"))


def test_links_of_the_chip_that_has_fewest():
    assert find("v6e-1").interconnect_bandwidth is None
    assert find("v6e-8").interconnect_bandwidth == 200e9  # a corner of 2x4: two links of 100 GB/s inwards
    assert find("v6e-256").interconnect_bandwidth == 400e9  # a torus: all four
    assert find("v5p-8").interconnect_bandwidth == 200e9  # 2x2x1
    assert find("tpu7x-8").interconnect_bandwidth == 100e9  # two devices share two links
    assert find("H100-8").interconnect_bandwidth == 450e9
