"""The sizes that configs hold."""

import jax
import numpy as np
import pytest
from flax import nnx

from talkverse_jax.families.multitalk.components import COMPONENTS
from talkverse_jax.families.multitalk.family import FAMILY
from talkverse_jax.families.multitalk.masks import Cells
from talkverse_jax.media.buckets import sizes
from tests.families.multitalk.tiny import CONFIGS


@pytest.fixture
def toy():
    return FAMILY.configs_from_toml(CONFIGS / "model_toy_multitalk.toml")


def test_the_toy_knows_four_speakers_apart(toy):
    places = sorted([*toy.dit.ranges(4), (toy.dit.background, toy.dit.background)])
    assert all(after - before >= 8 for (_, before), (after, _) in zip(places, places[1:]))
    rows, columns = Cells.of(toy.dit, toy.vae).pixels
    assert all(h % rows == w % columns == 0 for h, w in sizes("toy-people"))


@pytest.mark.slow
def test_the_toy_is_small(toy):
    count = 0
    for name, component in COMPONENTS.items():
        if (config := getattr(toy, name)) is not None:
            count += sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(nnx.state(component.abstract(config))))
    assert count * 2 < 10e6  # bytes in bfloat16
