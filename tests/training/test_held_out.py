"""The loss of samples that are not trained on."""

import jax
import numpy as np
import pytest

from talkverse_jax.data.batches import SampleId, WindowShape
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.rules import TRAINING
from talkverse_jax.training.held_out import HeldOut, Once
from talkverse_jax.training.loop import training_mesh
from talkverse_jax.training.network import load_network
from talkverse_jax.training.setup import network_start
from tests.training import runs
from tests.training.test_run import Lines


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> runs.Place:
    return runs.make(tmp_path_factory.mktemp("held_out"))


def test_every_sample_once():
    wide, tall = WindowShape(4, 8, "motion"), WindowShape(8, 4, "motion")
    order = Once((wide, tall, wide, wide), 2, 0)
    assert [batch.samples for batch in order.batches()] == [
        (SampleId(0, 0), SampleId(0, 2)),
        (SampleId(0, 3), SampleId(1, 3)),  # the second fills the batch
        (SampleId(0, 1), SampleId(1, 1)),
    ]
    assert order[4] == order[1]


def measure(place: runs.Place, output, mesh=None, **changes):
    lines = Lines()
    options = place.options(output, held_out=str(place.data / "metadata.csv"), mesh=mesh, **changes)
    layout = Layout(training_mesh(mesh, FAMILY.heads(runs.SMALL)), TRAINING)
    settings, begun = network_start(options, FAMILY, runs.SMALL)
    component = FAMILY.components[FAMILY.training.component]
    network, params = load_network(options.input.weights, component, settings, layout, begun)
    held_out = HeldOut(options, FAMILY, runs.SMALL, network, layout, lines)
    return held_out, params, lines


@pytest.mark.slow
def test_the_same_weights_have_the_same_loss(place, tmp_path):
    """Again, in other batches and on a mesh; others have another."""
    held_out, params, lines = measure(place, tmp_path / "two", batch_size=2)
    values, seconds = held_out.measure(params)
    assert held_out.measure(params)[0] == values and seconds > 0
    assert len(values) == 6 and np.mean(list(values.values())[1:]) == pytest.approx(values["held_out/loss"])
    assert "5 samples (3 batches) at 5 noise levels, every 500 steps" in lines.line("held-out loss")
    sharded, its_params, _ = measure(place, tmp_path / "mesh", "fsdp=4,tensor=2", batch_size=4)
    for name, value in sharded.measure(its_params)[0].items():
        assert value == pytest.approx(values[name], rel=1e-5), name
    moved = jax.tree.map(lambda x: x * 1.1, params)
    assert held_out.measure(moved)[0]["held_out/loss"] != pytest.approx(values["held_out/loss"], rel=1e-3)
