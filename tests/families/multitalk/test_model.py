"""The transformer on its own, and split over eight devices. Its numbers against the original's: test_parity.py."""

import dataclasses
import functools
import json
import operator
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkverse_jax.core import tree
from talkverse_jax.core.config import from_dict, to_dict
from talkverse_jax.families.multitalk.axes import AXES
from talkverse_jax.families.multitalk.config import MultiTalkConfig
from talkverse_jax.families.multitalk.keys import RULES
from talkverse_jax.families.multitalk.model import MultiTalk
from talkverse_jax.models.wan.taps import Taps
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.weights.match import torch_shapes
from tests.conftest import GOLDENS
from tests.families.multitalk.small import SMALL, call, random_inputs
from tests.sharded import error, sharded
from tests.tiny import random_module

PUBLISHED = GOLDENS / "multitalk" / "multitalk_14b_tensors.json"


def test_the_published_size_has_the_published_names_and_shapes():
    model = tree.abstract(MultiTalk, MultiTalkConfig.multitalk_14b(), param_dtype=jnp.bfloat16)
    published = {name: tuple(shape) for name, shape in json.loads(PUBLISHED.read_text()).items()}
    assert len(published) == 1633
    assert torch_shapes(tree.abstract_parameters(model), RULES) == published


def test_a_config_survives_json():
    assert from_dict(MultiTalkConfig, json.loads(json.dumps(to_dict(SMALL))), "here") == SMALL


def test_a_speaker_more_changes_the_video_and_silence_is_heard_alone():
    model, inputs = random_module(MultiTalk, SMALL), random_inputs()
    both = call(model, **inputs)
    first = jax.tree.map(lambda x: x[:, :1], inputs["sound"])
    one = call(model, **inputs | {"sound": first, "speakers": None})
    assert error(one, both) > 1e-3
    alone = call(model, **inputs | {"alone": jnp.array([True])})  # keys of the second masked, rotations zero
    assert error(alone, one) < 1e-6


@pytest.mark.slow
def test_the_stream_may_be_rounded_after_every_stage():
    """As the original does. A rounding of the last block's result is seen in its tap; a rounding is small."""
    inputs, kept = random_inputs(), {}
    for dtype in (jnp.float32, jnp.bfloat16):
        model, taps = random_module(MultiTalk, SMALL), Taps()
        model.residual_dtype = dtype
        conditions = model.prepare(*(inputs[name] for name in ("text", "image", "known", "sound", "speakers")))
        velocity = model.velocity(inputs["latents"], inputs["timestep"], conditions, taps)
        assert velocity.dtype == jnp.float32
        kept[dtype] = velocity, taps.values[f"blocks/{SMALL.trunk.num_layers - 1}"]
    (exact, _), (rounded, stream) = kept.values()
    assert stream.dtype == jnp.bfloat16
    assert 1e-4 < error(rounded, exact) < 0.05


def test_rows_of_guidance_do_not_touch_each_other():
    """As guidance has them: two speakers, two speakers, and silence as of one."""
    model, inputs = random_module(MultiTalk, SMALL), random_inputs(rows=3)
    inputs["alone"] = jnp.array([False, False, True])
    together = call(model, **inputs)
    for row in (slice(0, 1), slice(1, 2), slice(2, 3)):
        apart = call(model, **jax.tree.map(operator.itemgetter(row), inputs))
        assert error(apart, together[row]) < 1e-5


def test_swapped_voices_and_swapped_places_are_other_videos():
    model, inputs = random_module(MultiTalk, SMALL), random_inputs()
    usual = call(model, **inputs)
    voices = inputs | {"sound": jax.tree.map(lambda x: x[:, ::-1], inputs["sound"])}
    places = inputs | {"speakers": inputs["speakers"][:, jnp.array([1, 0, 2])]}
    assert error(call(model, **voices), usual) > 1e-3
    assert error(call(model, **places), usual) > 1e-3


def test_more_speakers_than_were_trained_take_the_background_s_position():
    assert SMALL.ranges(4) == ((0.0, 4.0), (20.0, 24.0), (12.0, 12.0), (12.0, 12.0))
    found = call(random_module(MultiTalk, SMALL), **random_inputs(speakers=4))
    assert np.isfinite(found).all()


def test_who_is_nowhere_is_not_there():
    """Samples of two people, in a batch of up to four, are as videos of two."""
    model, two = random_module(MultiTalk, SMALL), random_inputs()
    speakers = jnp.insert(two["speakers"], jnp.array([2, 2]), 0, axis=1)
    sound = jax.tree.map(lambda x: jnp.concatenate([x, x], axis=1), two["sound"])
    assert error(call(model, **two | {"speakers": speakers, "sound": sound}), call(model, **two)) < 1e-6


def test_what_the_blocks_added_brings_back_their_result():
    model, inputs = random_module(MultiTalk, SMALL), random_inputs()
    conditions = model.prepare(*(inputs[name] for name in ("text", "image", "known", "sound", "speakers")))
    usual, added = model.cached_velocity(inputs["latents"], inputs["timestep"], conditions, None)
    again, same = model.cached_velocity(inputs["latents"], inputs["timestep"], conditions, added)
    assert same is added
    assert error(again, usual) < 1e-6


HEADS = 8
WIDE = dataclasses.replace(SMALL, trunk=dataclasses.replace(SMALL.trunk, num_heads=HEADS, dim=256, ffn_dim=512))
GRID = dict(rows=3, frames=3, height=14, width=18)  # 189 tokens of 63 a frame: no part of a device ends with a frame
MESHES = (
    "context=2,ulysses=1",
    "data=3,context=2",
    "tensor=2,context=2",
    *(
        pytest.param(mesh, marks=pytest.mark.slow)
        for mesh in (
            "context=4",
            "context=4,ulysses=1",
            "context=4,ulysses=2",
            "context=8",
            "fsdp=2,context=2",
            "tensor=4",
        )
    ),
)


def layout_of(mesh: str) -> Layout:
    config = MeshConfig.parse(mesh)
    count = int(np.prod([int(n) for n in re.findall(r"(?:data|fsdp|context|tensor)=(\d+)", mesh)]))
    return Layout(make_mesh(config, jax.devices()[:count], HEADS))


@functools.cache
def unsplit():
    model, inputs = random_module(MultiTalk, WIDE), random_inputs(WIDE, **GRID)
    inputs["alone"] = jnp.array([False, False, True])
    return model, inputs, call(model, **inputs)


@pytest.mark.parametrize("mesh", MESHES)
def test_several_devices_compute_what_one_does(mesh):
    model, inputs, expected = unsplit()
    layout = layout_of(mesh)
    ours = sharded(model, layout, AXES, scan=True)
    assert error(call(ours, **inputs), expected) < 1e-5


def test_one_speaker_on_several_devices():
    model, inputs, _ = unsplit()
    inputs = inputs | {"sound": jax.tree.map(lambda x: x[:, :1], inputs["sound"]), "speakers": None, "alone": None}
    ours = sharded(model, layout_of("context=4"), AXES, scan=True)
    assert error(call(ours, **inputs), call(model, **inputs)) < 1e-5
