"""Which mesh a run takes when nobody says."""

import types

import jax
import pytest

from talkverse_jax.pipeline import placement
from talkverse_jax.sharding.mesh_config import MeshConfig


@pytest.mark.parametrize(
    "count, gigabytes, branches, weights, mesh",
    [
        (8, 32, 2, 11, MeshConfig(data=2, context=-1)),
        (8, 16, 2, 11, MeshConfig(data=2, fsdp=2, context=-1)),
        (8, 32, 1, 11, MeshConfig(data=1, context=-1)),
        (2, 16, 2, 11, MeshConfig(data=2, context=-1)),
        (3, 32, 2, 11, MeshConfig(data=1, context=-1)),
        (8, 32, 3, 38, MeshConfig(data=1, fsdp=4, context=-1)),
        (6, 32, 3, 38, MeshConfig(data=3, fsdp=2, context=-1)),  # not enough, but all there is
        (8, 100, 3, 38, MeshConfig(data=1, context=-1)),
    ],
)
def test_accelerators_are_all_taken(monkeypatch, count, gigabytes, branches, weights, mesh):
    device = types.SimpleNamespace(platform="tpu", memory_stats=lambda: {"bytes_limit": gigabytes * 1e9})
    made = []
    monkeypatch.setattr(jax, "devices", lambda: [device] * count)
    monkeypatch.setattr(
        placement, "make_mesh", lambda config, *_: made.append(config) or types.SimpleNamespace(shape={"data": 1})
    )
    placement.choose_mesh(None, 24, branches, lambda: weights * 10**9)
    assert made == [mesh]


def test_one_device_and_cpus_need_no_mesh():
    assert placement.choose_mesh(None, 24, 2, lambda: 0) is None
