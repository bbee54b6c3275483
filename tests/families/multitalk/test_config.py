"""The sizes that configs hold."""

import jax
import numpy as np
import pytest
from flax import nnx

from talkverse_jax.core.config import load_toml
from talkverse_jax.families.multitalk.components import COMPONENTS, MultiTalkConfigs
from talkverse_jax.media.buckets import sizes
from tests.families.multitalk.tiny import CONFIGS


@pytest.fixture
def toy():
    return load_toml(MultiTalkConfigs, CONFIGS / "model_toy_multitalk.toml")


def test_the_toy_knows_four_speakers_apart(toy):
    places = sorted([*toy.dit.ranges(4), (toy.dit.background, toy.dit.background)])
    assert all(after - before >= 8 for (_, before), (after, _) in zip(places, places[1:]))
    token = toy.vae.space_stride * toy.dit.trunk.patch_size[1]
    assert all(side % token == 0 for size in sizes("toy-people") for side in size)


@pytest.mark.slow
def test_the_toy_is_small(toy):
    count = 0
    for name, component in COMPONENTS.items():
        if (config := getattr(toy, name)) is not None:
            count += sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(nnx.state(component.abstract(config))))
    assert count * 2 < 10e6  # bytes in bfloat16
