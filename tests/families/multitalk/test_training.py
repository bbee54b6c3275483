"""The loss by hand, what is left out of it, gradients, and updates on one device and on eight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkverse_jax.diffusion import loss as flow
from talkverse_jax.families.multitalk.audio import AudioWindows
from talkverse_jax.families.multitalk.model import MultiTalk
from talkverse_jax.families.multitalk.settings import TrainingSettings
from talkverse_jax.families.multitalk.training import (
    TRAINING,
    MultiTalkBatch,
    MultiTalkDropouts,
    MultiTalkLoss,
    batch_losses,
)
from talkverse_jax.sharding.distributed import fetch
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.rules import TRAINING as RULES
from talkverse_jax.training.strategy import Strategy
from tests.families.multitalk.samples import FRAMES, GRID, INFINITE, ROWS, TAKEN_OVER, begin, put, random_batch
from tests.families.multitalk.small import SMALL, call
from tests.sharded import error
from tests.tiny import random_module

NOTHING = jnp.zeros(4, bool)
RELATIVE = 5e-6  # the loss has 1e-6 beside the sum of its weights


def drawn(timesteps=(0, 400, 700, 999), **left_out) -> flow.Draw:
    noise = jax.random.normal(jax.random.key(5), (len(timesteps), FRAMES, GRID, GRID, 16))
    drop = {name: NOTHING for name in MultiTalkDropouts._fields} | left_out
    return flow.Draw(jnp.array(timesteps), noise, MultiTalkDropouts(**drop))


@jax.jit
def losses(model: MultiTalk, batch: MultiTalkBatch, draw: flow.Draw) -> jax.Array:
    return batch_losses(model, batch, draw, TAKEN_OVER, False)


def by_hand(model, batch: MultiTalkBatch, draw: flow.Draw, sample: int, *, words=True, sound=True) -> float:
    """The loss of a sample as sampling would see it, alone in its batch and by itself where one person speaks."""
    infinite, first = model.config.recipe == "infinitetalk", bool(batch.first[sample])
    sigma = 0.999 * (int(draw.timestep[sample]) + 1) / 1000
    data, noise = batch.latents[sample], np.asarray(draw.noise[sample])
    shown = 1 if infinite or first else 5  # frames
    mask = np.zeros((FRAMES, GRID, GRID, 4), np.float32)
    mask[0] = 1  # the first frame stands for four
    for frame in range(1, shown):
        mask[(frame + 3) // 4, :, :, (frame + 3) % 4] = 1
    x, made = (1 - sigma) * data + sigma * noise, slice(0, None)
    if infinite:
        made = slice(1 if first else TAKEN_OVER, None)
        x[: made.start] = data[: made.start]
    elif not first:
        made = slice(TAKEN_OVER, None)
    people = 1 if batch.alone[sample] or not sound else 2
    audio = batch.audio[sample, :people] * sound
    row = lambda n: audio[:, min(max(n, 0), ROWS - 1) if n < ROWS else 2 * ROWS - 1 - n]  # noqa: E731
    velocity = call(
        model,
        text=batch.text[sample : sample + 1] if words else batch.null_text[None],
        image=batch.image[sample : sample + 1],
        known=np.concatenate([mask, batch.known[sample]], axis=-1)[None],
        sound=AudioWindows(
            jnp.stack([row(n) for n in range(-2, 3)], 1)[None],
            jnp.stack([jnp.stack([row(4 * j - 5 + n) for n in range(8)], 1) for j in range(1, FRAMES)], 1)[None],
        ),
        speakers=None if people == 1 else batch.places[sample : sample + 1].astype(np.float32),
        alone=None,
        latents=jnp.asarray(x)[None],
        timestep=jnp.array([1000 * sigma], jnp.float32),
    )[0]
    return float(np.square(np.asarray(velocity) - (noise - data))[made].mean())


@pytest.mark.parametrize(
    "config", [SMALL, pytest.param(INFINITE, marks=pytest.mark.slow)], ids=["multitalk", "infinitetalk"]
)
def test_the_loss_by_hand(config):
    """Samples 0 and 2 are first clips, 0 and 3 of one person, in a batch of two."""
    model, batch, draw = random_module(MultiTalk, config), random_batch(4, config), drawn()
    expected = [by_hand(model, batch, draw, sample) for sample in range(4)]
    np.testing.assert_allclose(losses(model, batch, draw), expected, rtol=RELATIVE)


def test_what_is_left_out_is_what_guidance_leaves_out():
    model, batch = random_module(MultiTalk, SMALL), random_batch(4)
    left_out = [dict(words=False, sound=False), dict(words=False), dict(sound=False), {}]
    each = {name: NOTHING.at[place].set(True) for place, name in enumerate(MultiTalkDropouts._fields)}
    draw = drawn(**each)
    expected = [by_hand(model, batch, draw, sample, **out) for sample, out in enumerate(left_out)]
    np.testing.assert_allclose(losses(model, batch, draw), expected, rtol=RELATIVE)


def test_one_speaker_costs_no_places():
    batch = random_batch(4, speakers=1)
    model, draw = random_module(MultiTalk, SMALL), drawn()
    expected = [by_hand(model, batch, draw, sample) for sample in range(4)]
    np.testing.assert_allclose(losses(model, batch, draw), expected, rtol=RELATIVE)


def test_frames_taken_over_do_not_count():
    """What the model should have made of them changes nothing where they are clean; under noise they are its input."""
    model, batch, draw = random_module(MultiTalk, INFINITE), random_batch(4, INFINITE), drawn()
    others = draw._replace(noise=draw.noise.at[:, 0].add(1.0).at[1::2, 1].add(1.0))
    np.testing.assert_array_equal(losses(model, batch, draw), losses(model, batch, others))


def test_faces_and_the_places_of_several_speakers_count_more():
    model, batch, draw = random_module(MultiTalk, SMALL), random_batch(4), drawn()
    roi = jax.jit(lambda batch: batch_losses(model, batch, draw, TAKEN_OVER, True))
    nowhere = jnp.zeros_like(batch.face)
    plain, empty = losses(model, batch, draw), batch._replace(face=nowhere, body=nowhere)
    np.testing.assert_allclose(roi(empty)[::3], plain[::3], rtol=1e-5)  # one person is nowhere in particular
    assert (abs(roi(empty) / plain - 1)[1:3] > 1e-4).all()
    assert (abs(roi(batch) / roi(empty) - 1) > 1e-4).all()


@pytest.mark.parametrize("shares", [(0.1, 0.1, 0.05), (0.5, 0.25, 0.25), (0.0, 0.0, 1.0)])
def test_each_is_left_out_as_often_as_asked(shares):
    text, audio, both = shares
    settings = TrainingSettings(text_dropout_prob=text, audio_dropout_prob=audio, both_dropout_prob=both)
    ids = jnp.stack([jnp.zeros(4000), jnp.arange(4000)], axis=1).astype(jnp.uint32)
    drop = flow.draw(flow.sample_keys(0, ids), (1, 1, 1, 1), MultiTalkDropouts.of(settings)).drop
    found = [(drop.no_text & ~drop.no_audio), (drop.no_audio & ~drop.no_text), (drop.no_text & drop.no_audio)]
    assert [float(each.mean()) for each in found] == pytest.approx([text, audio, both], abs=0.025)


@pytest.mark.slow
def test_the_gradient_is_the_slope():
    """Along a random direction, by differences: of everything that is trained, adapters too."""
    step, states = begin("lora")
    params, batch = states["dit"].params, random_batch(4)
    model = step.networks["dit"].network.model
    draw = drawn()
    total = jax.jit(lambda params: losses(model(params), batch, draw).sum())
    keys = dict(zip(params, jax.random.split(jax.random.key(0), len(params))))
    along = {key: jax.random.normal(keys[key], x.shape) * x.std() for key, x in params.items()}
    slope = sum(float(jnp.vdot(x, along[key])) for key, x in jax.jit(jax.grad(total))(params).items())
    far = lambda by: float(total({key: x + by * along[key] for key, x in params.items()}))  # noqa: E731
    assert slope == pytest.approx((far(1e-3) - far(-1e-3)) / 2e-3, rel=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["lora", "full"])
def test_the_loss_goes_down(strategy):
    step, states = begin(strategy, loss=MultiTalkLoss(TAKEN_OVER, MultiTalkDropouts(0.05, 0.1, 0.1), roi=True))
    batch, found = random_batch(4), []
    for _ in range(20):
        sums, samples = step.add_gradients(0, states, batch, None)
        states, _ = step.update(0, states, sums, np.inf)
        found.append(float(np.mean(samples.loss)))
    assert found[-1] < 0.8 * found[0] and np.isfinite(found).all(), found


def test_what_is_trained():
    step, _ = begin("lora")
    paths = {path for paths in step.networks["dit"].network.paths.values() for path in paths}
    assert {"blocks/0/audio_cross_attn/kv/kernel", "blocks/2/norm_x/scale", "audio_projector/first/kernel"} <= paths
    assert {"blocks/1/self_attn/q/adapter/a", "blocks/1/cross_attn/k_img/adapter/b", "head/linear/kernel"} <= paths
    assert not any("audio_cross_attn" in path and "adapter" in path for path in paths)  # they are trained whole
    assert not any(path.endswith("self_attn/q/kernel") for path in paths)
    last = Strategy.of("moderate", TRAINING.trainable, SMALL)
    assert last.trains("blocks/2/ffn/fc1/kernel") and not last.trains("blocks/1/ffn/fc1/kernel")


def one_update(layout: Layout, strategy: str):
    step, states = begin(strategy, layout, loss=MultiTalkLoss(TAKEN_OVER, MultiTalkDropouts(0.1, 0.2, 0.2), roi=True))
    sums, found = step.add_gradients(0, states, put(layout, random_batch(8)), None)
    return jax.tree.map(lambda x: np.array(fetch(x, everywhere=True)), (sums.gradients, found.loss))


@pytest.mark.parametrize(
    "mesh, strategy",
    [
        pytest.param("data=2,fsdp=2,context=2", "lora", marks=pytest.mark.slow),
        pytest.param("fsdp=2,context=4", "full", marks=pytest.mark.slow),
        pytest.param("data=2,fsdp=2,tensor=2", "full", marks=pytest.mark.slow),
    ],
)
def test_eight_devices_against_one(mesh, strategy):
    layout = Layout(make_mesh(MeshConfig.parse(mesh), jax.devices(), heads=4), RULES)
    (gradients, loss), (wanted, wanted_loss) = one_update(layout, strategy), one_update(Layout(), strategy)
    np.testing.assert_allclose(loss, wanted_loss, rtol=1e-5)
    for key, gradient in wanted.items():
        assert error(gradients[key], gradient) < 2e-5, key


@pytest.mark.slow
def test_bfloat16_is_near():
    step, states = begin("lora", dtype="bfloat16")
    exact, of_exact = begin("lora")
    batch = random_batch(4)
    ours, theirs = (s.add_gradients(0, x, batch, None)[1].loss for s, x in ((step, states), (exact, of_exact)))
    np.testing.assert_allclose(ours, theirs, rtol=0.03)
    assert {x.dtype for x in states["dit"].params.values()} == {jnp.dtype("float32")}
