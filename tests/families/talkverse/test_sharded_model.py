"""The transformer on eight devices against the same on one: every way to split it."""

import dataclasses
import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkverse_jax.core import tree
from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.axes import AXES
from talkverse_jax.families.talkverse.config import TalkVerseConfig
from talkverse_jax.families.talkverse.model import TalkVerse
from talkverse_jax.models.wan.blocks import find_patterns
from talkverse_jax.sharding.layout import Layout, parameter_axes
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from tests.families.talkverse.test_model import call, random_inputs
from tests.sharded import sharded
from tests.tiny import TINY, random_module

HEADS = 8
CONFIG = dataclasses.replace(
    TINY,
    trunk=dataclasses.replace(TINY.trunk, num_heads=HEADS, dim=256, ffn_dim=512, num_layers=6),
    audio_inject_layers=(0, 2, 4),
)
GRID = dict(frames=3, height=18, width=18)  # 439 tokens, a prime number
MESHES = (
    "data=2,context=4",
    "data=2,fsdp=2,tensor=2",
    *(
        pytest.param(mesh, marks=pytest.mark.slow)
        for mesh in (
            "fsdp=8",
            "context=8",
            "context=8,ulysses=1",
            "context=8,ulysses=4",
            "tensor=8",
            "data=2,context=2,tensor=2",
            "fsdp=2,context=4,ulysses=2",
            "fsdp=4,tensor=2",
        )
    ),
)


def layout_of(mesh: str) -> Layout:
    return Layout(make_mesh(MeshConfig.parse(mesh), jax.devices()[:8], HEADS))


@functools.cache
def unsplit():
    model, inputs = random_module(TalkVerse, CONFIG), random_inputs(batch=2, **GRID)
    inputs["timestep"] = jnp.array([300.0, 700.0])
    return model, inputs, call(model, **inputs)


@pytest.mark.parametrize("mesh", MESHES)
def test_eight_devices_compute_what_one_does(mesh):
    model, inputs, expected = unsplit()
    layout = layout_of(mesh)
    ours = sharded(model, layout, AXES, scan=True)
    compiled = call.lower(ours, **inputs).compile()
    found = compiled(ours, **inputs)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())

    for path, leaf in tree.parameters(ours).items():
        names = parameter_axes(AXES, path, leaf.ndim)
        parts = math.prod(layout.parts(name) for name in names if name)
        if leaf.ndim > 1 and path != "audio_encoder/conv1_local/conv/kernel":
            assert leaf.addressable_shards[0].data.size * parts == leaf.size, path
    _check_activations_are_split(compiled.as_text(), layout)


def _check_activations_are_split(hlo: str, layout: Layout) -> None:
    """Nothing that is as long as the sequence is larger than a device's part of a stage; but for patches (192
    numbers a token), attention's scores, and vectors. (Within a stage `tensor` devices hold all of their tokens
    and a part of the hidden channels.)"""
    length = -(-439 // layout.parts("stream")) * layout.parts("stream")
    wide = CONFIG.trunk.dim // layout.parts("batch") // layout.parts("tokens")
    largest = 2 * length * max(wide, CONFIG.trunk.ffn_dim // layout.mesh.size)
    shapes = {tuple(map(int, dims.split(","))) for dims in re.findall(r"\b(?:f32|bf16)\[([\d,]+)\]", hlo)}
    whole = [shape for shape in shapes if any(n in (length, 2 * length) for n in shape)]
    assert any(n == length // layout.parts("tokens") for shape in shapes for n in shape)
    too_large = [
        shape
        for shape in whole
        if math.prod(shape) > largest and sum(n >= 432 for n in shape) == 1 and shape[-1] != 192
    ]
    assert not too_large, too_large


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["fsdp=2,tensor=4"])
def test_blocks_one_by_one_compute_what_the_scan_does(mesh):
    model, inputs, expected = unsplit()
    found = call(sharded(model, layout_of(mesh), AXES, scan=False), **inputs)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_what_repeats_is_compiled_once():
    def of(config, scan=True):
        patterns = find_patterns(config.layers, scan)
        return [("".join(paths[0][0] for paths in pattern), len(pattern[0])) for pattern in patterns]

    published = TalkVerseConfig.talkverse_5b()
    assert of(published) == [("babb", 10), ("a", 1)]
    assert find_patterns(published.layers, True)[0][2] == tuple(f"blocks/{i}" for i in range(1, 30, 3))
    assert find_patterns(published.layers, True)[1] == (("audio_injectors/10",),)
    assert of(CONFIG) == [("bab", 3)]
    assert of(CONFIG, scan=False) == [("ba", 1), ("b", 1)] * 3
    uneven = dataclasses.replace(CONFIG, audio_inject_layers=(0, 1, 3))
    assert of(uneven) == [("ba", 2), ("b", 2), ("a", 1), ("b", 2)]


@pytest.mark.parametrize(
    "mesh, message", [("tensor=3,context=2", "mesh: ffn_dim 512 cannot be split into 3"), ("fsdp=6", "dim 256")]
)
def test_sizes_that_do_not_divide_are_refused(mesh, message):
    layout = Layout(make_mesh(MeshConfig.parse(mesh), jax.devices()[:6], 24))
    with pytest.raises(UserError, match=message):
        tree.abstract(TalkVerse, CONFIG, layout=layout)


@pytest.mark.slow
def test_rematerialisation_changes_memory_and_not_gradients():
    config = dataclasses.replace(TINY, audio_inject_layers=(2,))
    model, inputs = random_module(TalkVerse, config), random_inputs(frames=4, height=16, width=16)

    @jax.jit
    @jax.grad
    def gradient(model):
        return jnp.square(call(model, **inputs, timestep=jnp.array([300.0]))).mean()

    def of(remat):
        other = tree.abstract(TalkVerse, config, scan=True, remat=remat)
        other = tree.with_parameters(other, tree.parameters(model))
        compiled = gradient.lower(other).compile()
        return jax.tree.leaves(compiled(other)), compiled.memory_analysis().temp_size_in_bytes

    (plain, most), (dots, less), (full, least) = (of(remat) for remat in ("none", "dots", "full"))
    assert least < less < most
    for a, b, c in zip(plain, dots, full):
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(a).max())
        np.testing.assert_allclose(a, c, atol=1e-5 * np.abs(a).max())
