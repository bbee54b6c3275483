"""Roll-outs of a small student, against a plain loop; which gradients pass, and what critic and teacher see."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from talkverse_jax.diffusion import rollout
from talkverse_jax.diffusion.distil import ScoreLevels, TeacherScales
from talkverse_jax.diffusion.rollout import CriticLoss, DistilRecipe, GeneratorLoss, roll_out
from talkverse_jax.sharding.layout import Layout

SIGMAS = [1.0, 0.9375, 0.8333333, 0.625, 0.0]
SHAPE = (2, 1, 1, 3)  # F h w C of a clip
RECIPE = DistilRecipe(4, 5.0, ScoreLevels(5.0, 0.02, 0.98), TeacherScales(3.0, 2.0))


class Window(NamedTuple):
    x: np.ndarray  # B, clips, *SHAPE


class Net(nnx.Module):
    """velocity = x w + before, of one number."""

    def __init__(self, w: float):
        self.w, self.layout = nnx.Param(jnp.float32(w)), Layout()

    def velocity(self, latents, timestep, conditions):
        sigma = (timestep / 1000)[:, None, None, None, None]
        return latents * self.w.get_value() + sigma * conditions


@dataclasses.dataclass(frozen=True)
class Two:
    """Two clips; the sum of what was before is a clip's condition, and each branch has it times a number."""

    count: int = 2

    def shape(self, batch):
        return SHAPE

    def before(self, batch, clip):
        return jnp.where(clip == 0, 0.1, batch.x[:, 0].mean(axis=(1, 2, 3, 4), keepdims=False)[:, None])

    def after(self, batch, clip, before, latents):
        return before + latents.mean(axis=(1, 2, 3, 4))[:, None]

    def conditions(self, model, batch, clip, before, parts):
        times = {"all": 1.0, "wordless": 0.5, "neither": 0.25}
        return jnp.concatenate([before * times[part] for part in parts])[:, :, None, None, None]

    def hold(self, batch, before):
        return None

    def weights(self, batch):
        return None


@pytest.fixture
def drawn(monkeypatch):
    """No noise, and a roll-out of both clips that ends in its third step."""
    monkeypatch.setattr(rollout, "fresh_noise", lambda keys, shape: jnp.ones(shape))
    monkeypatch.setattr("talkverse_jax.diffusion.solvers.fresh_noise", lambda keys, shape: jnp.ones(shape))
    monkeypatch.setattr(jax.random, "randint", lambda key, shape, low, high: jnp.int32({2: 1, 4: 2}[high]))
    return jax.random.split(jax.random.key(0), 2)


BATCH = Window(np.random.default_rng(0).standard_normal((2, 2, *SHAPE)).astype(np.float32))


def data(w, x, sigma, condition):
    return x - sigma * (x * w + sigma * condition)


def plain(w, last):
    """The latents of the last clip: of one number a sample, as all places are alike."""
    before = np.full(2, 0.1)
    for clip in range(last + 1):
        x = np.ones(2)
        for i in range(4 if clip < last else 3):
            x0 = data(w, x, SIGMAS[i], before)
            x = (1 - SIGMAS[i + 1]) * x0 + SIGMAS[i + 1]
        if clip == last:
            return x0
        before = before + x
    raise AssertionError


def test_a_roll_out_is_a_plain_loop(drawn):
    rolled = roll_out(Net(0.3), Two(), RECIPE, BATCH, drawn)
    assert (int(rolled.clip), int(rolled.exit)) == (1, 2)
    np.testing.assert_allclose(
        rolled.latents, np.broadcast_to(plain(0.3, 1)[:, None, None, None, None], (2, *SHAPE)), rtol=1e-5
    )


def test_the_gradient_passes_through_one_step_alone(drawn):
    made = lambda net: roll_out(net, Two(), RECIPE, BATCH, drawn).latents.mean()  # noqa: E731
    found = nnx.grad(made)(Net(0.3)).w.get_value()
    before = 0.1 + plain_walk(0.3, 0.1, 4)
    x = plain_walk(0.3, before, 2)  # what the third step starts from, taken as it is
    np.testing.assert_allclose(found, -SIGMAS[2] * x, rtol=1e-5)


def plain_walk(w, before, steps):
    x = 1.0
    for i in range(steps):
        x = (1 - SIGMAS[i + 1]) * data(w, x, SIGMAS[i], before) + SIGMAS[i + 1]
    return x


def test_the_critic_learns_what_is_made_behind_real_clips(drawn):
    models = {"generator": Net(0.3), "critic": Net(0.5), "teacher": Net(0.7)}
    losses, known = CriticLoss(Two(), RECIPE)(models, BATCH, drawn)
    levels = RECIPE.levels.draw(rollout._of(drawn, rollout._LEVEL))
    made, real = plain(0.3, 1), BATCH.x[:, 0].mean(axis=(1, 2, 3, 4))
    x = (1 - levels) * made + levels
    np.testing.assert_allclose(losses, (x * 0.5 + levels * real - (1 - made)) ** 2, rtol=1e-4)
    assert known["clips"].tolist() == [2, 2] and known["exit"].tolist() == [3, 3]


def test_the_student_is_pulled_from_the_critic_to_the_guided_teacher(drawn):
    models = {"generator": Net(0.3), "critic": Net(0.5), "teacher": Net(0.7)}
    losses, _ = GeneratorLoss(Two(), RECIPE)(models, BATCH, drawn)
    levels = RECIPE.levels.draw(rollout._of(drawn, rollout._LEVEL))
    made, real = plain(0.3, 1), BATCH.x[:, 0].mean(axis=(1, 2, 3, 4))
    x = (1 - levels) * made + levels
    full, wordless, neither = (data(0.7, x, levels, times * real) for times in (1.0, 0.5, 0.25))
    teacher = neither + 3 * (full - wordless) + 2 * (wordless - neither)
    gradient = (data(0.5, x, levels, real) - teacher) / abs(made - teacher)
    np.testing.assert_allclose(losses, 0.5 * gradient**2, rtol=1e-3)


def test_only_the_trained_network_has_a_gradient(drawn):
    def of(loss, moved):
        def value(nets):
            return loss(dict(zip(("generator", "critic", "teacher"), nets)), BATCH, drawn)[0].sum()

        found = nnx.grad(value)(nnx.List([Net(0.3), Net(0.5), Net(0.7)]))
        sizes = [float(abs(leaf)) for leaf in jax.tree.leaves(found)]
        assert [size > 0 for size in sizes] == moved

    of(CriticLoss(Two(), RECIPE), [False, True, False])
    of(GeneratorLoss(Two(), RECIPE), [True, False, False])
