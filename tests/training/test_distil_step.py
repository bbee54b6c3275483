"""Distillation of a small transformer: what moves, and eight devices against one."""

import jax
import numpy as np
import pytest

from talkverse_jax.core import tree
from talkverse_jax.diffusion.distil import ScoreLevels, TeacherScales
from talkverse_jax.diffusion.rollout import CriticLoss, DistilRecipe, GeneratorLoss
from talkverse_jax.families.talkverse.axes import AXES
from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.families.talkverse.rollout import TalkVerseRollout
from talkverse_jax.families.talkverse.training import TRAINING
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.training.network import NetworkSettings, abstract, divide, kept
from talkverse_jax.training.optimizer import Rates, make_optimizer
from talkverse_jax.training.state import start
from talkverse_jax.training.step import Phase, Trained, TrainingStep
from talkverse_jax.training.strategy import Strategy
from tests.tiny import random_values
from tests.training.samples import SMALL, random_batch
from tests.training.test_sharded_step import in_host_memory, layout_of, put

RECIPE = DistilRecipe(2, 5.0, ScoreLevels(5.0, 0.02, 0.98), TeacherScales(3.0, 2.0))


def round_of(layout: Layout, samples: int):
    """One update of the critic and one of the student, over one or two clips of one latent frame: the states before
    and after, the gradients, and the samples' losses, in host memory."""
    networks, states, before = {}, {}, {}
    place = layout.parameter_sharding(AXES) if layout.mesh else lambda *_: None
    chosen = Strategy.of("lora", TRAINING.trainable, SMALL)
    how = NetworkSettings(chosen, rank=4, alpha=8.0, dtype="float32", remat="full")

    def module(adapters: bool):
        made = abstract(COMPONENTS["dit"], SMALL, how, layout, adapters)
        values = {path: jax.device_put(x, place(path, x.shape)) for path, x in random_values(made).items()}
        return tree.with_parameters(made, values)

    for name in ("generator", "critic"):
        network, params = divide(module(True), chosen, layout)
        rule = make_optimizer(network.groups, Rates(base=1e-3, warmup=0), betas=(0.0, 0.999), decay=0.0)
        networks[name], states[name] = Trained(network, rule), start(params, rule, False)
        before[name] = in_host_memory(params)
    clips = TalkVerseRollout(2, 1, 4)
    phases = [Phase("critic", CriticLoss(clips, RECIPE)), Phase("generator", GeneratorLoss(clips, RECIPE))]
    step = TrainingStep(networks, phases, states, frozen={"teacher": kept(module(False), layout)}, seed=3)
    batch, losses, gradients = put(layout, random_batch(samples)), [], {}
    for phase, name in enumerate(("critic", "generator")):
        sums, found = step.add_gradients(phase, states, batch)
        gradients[name] = in_host_memory(sums.gradients)
        states, metrics = step.update(phase, states, sums)
        losses.append(in_host_memory(found))
        assert metrics.applied
    return before, {name: in_host_memory(state.params) for name, state in states.items()}, gradients, losses


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["data=2,fsdp=2,context=2", "fsdp=4,tensor=2"])
def test_eight_devices_distil_as_one_does(mesh):
    before, after, one, losses = round_of(Layout(), 4)
    for name, params in after.items():
        assert any(not np.array_equal(params[key], before[name][key]) for key in params), name
    *_, eight, other = round_of(layout_of(mesh), 4)
    for ours, theirs in zip(jax.tree.leaves(losses), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=1e-3)
    for name, gradients in one.items():  # not the parameters: Adam's first update is no larger for a larger gradient
        largest = max(np.abs(value).max() for value in gradients.values())
        for key, value in gradients.items():
            assert np.abs(eight[name][key] - value).max() < 1e-3 * largest, (name, key)
