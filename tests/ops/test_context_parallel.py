"""Attention of a sequence on eight devices is that on one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from talkverse_jax.core.errors import UserError
from talkverse_jax.ops.attention import Attention, Segments
from talkverse_jax.ops.attention.context_parallel import shared_attention
from talkverse_jax.ops.attention.splash import splash_attention
from talkverse_jax.ops.attention.tiles import Tiles
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from tests.ops.attention_cases import inputs, plain

HEADS = 24
MESHES = {  # the axes that make a ring, and those of Ulysses
    "context=2": ("", "ulysses"),
    "context=4": ("", "ulysses"),
    "context=8": ("", "ulysses"),
    "context=2,ulysses=1": ("ring", ""),
    "context=4,ulysses=1": ("ring", ""),
    "context=8,ulysses=1": ("ring", ""),
    "context=8,ulysses=2": ("ring", "ulysses"),
    "context=8,ulysses=4": ("ring", "ulysses"),
    "fsdp=8": ("", "fsdp"),
    "fsdp=2,context=4": ("", "fsdp ulysses"),
    "fsdp=2,context=4,ulysses=2": ("fsdp ring", "ulysses"),
    "tensor=8": ("", ""),
    "tensor=2,context=4": ("", "ulysses"),
    "tensor=4,fsdp=2": ("", "fsdp"),
    "data=2,context=4": ("", "ulysses"),
    "data=2,context=4,ulysses=1": ("ring", ""),
    "data=2,fsdp=2,tensor=2": ("", "fsdp"),
}


def _layout(text, heads=HEADS):
    config = MeshConfig.parse(text)
    devices = jax.devices()[: np.prod([getattr(config, axis) for axis in ("data", "fsdp", "context", "tensor")])]
    return Layout(make_mesh(config, devices, heads))


def _place(layout, *arrays, tokens="tokens"):
    return tuple(layout.put(x, "batch", tokens, "heads", None) for x in arrays)


@pytest.mark.parametrize("text", MESHES)
def test_self_attention_is_that_of_one_device(text):
    layout = _layout(text)
    attention = Attention(layout)
    ring, ulysses = attention._token_axes(HEADS)
    assert (" ".join(ring), " ".join(ulysses)) == MESHES[text]
    q, k, v = inputs(32, 32, heads=HEADS)
    spread = _place(layout, q, k, v)
    for tokens in (32, 11):  # all real; of eight devices, one with some padding and five with nothing else
        out = jax.jit(attention.self_attention, static_argnums=3)(*spread, tokens)
        seen = np.arange(32) < tokens
        np.testing.assert_allclose(out[:, :tokens], plain(q, k, v, seen)[:, :tokens], atol=2e-6)
        assert np.isfinite(out).all()


@pytest.mark.parametrize("text", ["context=8", "context=8,ulysses=2", "data=2,fsdp=2,tensor=2", "tensor=8"])
def test_cross_attention_is_that_of_one_device(text):
    layout = _layout(text)
    q, k, v = inputs(32, 13, heads=HEADS)
    segments = Segments(jnp.arange(32) // 6, jnp.arange(13) // 2)
    (spread,), keys = _place(layout, q), _place(layout, k, v, tokens=None)
    attend = jax.jit(Attention(layout).cross_attention)
    np.testing.assert_allclose(attend(spread, *keys), plain(q, k, v), atol=2e-6)
    mask = np.asarray(segments.queries)[:, None] == np.asarray(segments.keys)
    np.testing.assert_allclose(attend(spread, *keys, segments), plain(q, k, v, mask), atol=2e-6)


def test_a_batch_of_one_is_not_split():
    layout = _layout("data=2,context=4")
    q, k, v = inputs(32, 32, heads=HEADS, batch=1)
    out = jax.jit(Attention(layout).self_attention, static_argnums=3)(q, k, v, 32)
    np.testing.assert_allclose(out, plain(q, k, v), atol=2e-6)


@pytest.mark.parametrize("text", ["context=8", "context=4,ulysses=1", "fsdp=2,context=4,ulysses=2"])
def test_gradients_are_those_of_one_device(text):
    layout = _layout(text)
    x = inputs(32, 32, heads=HEADS)

    def gradients(attention):
        loss = lambda q, k, v: jnp.sin(attention.self_attention(q, k, v, 27)[:, :27]).sum()  # noqa: E731
        return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))

    wanted = gradients(Attention())(*x)
    for got, want in zip(gradients(Attention(layout))(*_place(layout, *x)), wanted):
        np.testing.assert_allclose(got, want, atol=5e-6)


def test_gradients_of_cross_attention_are_those_of_one_device():
    layout = _layout("data=2,context=4")
    q, k, v = inputs(32, 13, heads=HEADS)

    def gradients(attention):
        return jax.jit(jax.grad(lambda *x: jnp.sin(attention.cross_attention(*x)).sum(), argnums=(0, 1, 2)))

    spread = (*_place(layout, q), *_place(layout, k, v, tokens=None))
    for got, want in zip(gradients(Attention(layout))(*spread), gradients(Attention())(q, k, v)):
        np.testing.assert_allclose(got, want, atol=5e-6)


def _with_splash(ring, ulysses, tokens):
    """Self-attention on four devices by the interpreted kernel."""
    layout = _layout(f"context=4,ulysses={ulysses}", heads=2)
    kernel = functools.partial(splash_attention, tiles=Tiles(128, 128), interpret=True)
    axes = dict(ring=("ring",) if ring > 1 else (), ulysses=("ulysses",) if ulysses > 1 else ())
    share = functools.partial(shared_attention, kernel, tokens=tokens, **axes)
    spec = PartitionSpec(None, ("ring", "ulysses"))
    return jax.shard_map(share, mesh=layout.mesh, in_specs=(spec,) * 3, out_specs=spec, check_vma=False)


@pytest.mark.parametrize("ring, ulysses", [(4, 1), (2, 2)])
def test_a_ring_merges_what_splash_finds(ring, ulysses):
    q, k, v = inputs(160, 160, heads=2, width=64, batch=1)
    out = jax.jit(_with_splash(ring, ulysses, 110))(q, k, v)  # the fourth device of a ring has padding alone
    np.testing.assert_allclose(out[:, :110], plain(q, k, v, np.arange(160) < 110)[:, :110], atol=5e-6)
    assert np.isfinite(out).all()


@pytest.mark.parametrize("ring, ulysses, tokens", [(4, 1, 160), (2, 2, 70)])
def test_a_ring_of_fused_kernels_has_a_gradient(ring, ulysses, tokens):
    """Of 70 tokens, the second device of the ring of two has padding alone."""
    x = inputs(160, 160, heads=2, width=64, batch=1)

    def gradients(attend):
        loss = lambda *x: jnp.sin(attend(*x)[:, :tokens]).sum()  # noqa: E731
        return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*x)

    wanted = gradients(lambda *x: Attention().self_attention(*x, tokens))
    for got, want in zip(gradients(_with_splash(ring, ulysses, tokens)), wanted):
        np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize(
    "text, collectives",
    [
        ("context=8", {"all-to-all": 4}),
        ("context=8,ulysses=1", {"collective-permute": 2}),
        ("context=8,ulysses=2", {"all-to-all": 4, "collective-permute": 2}),
        ("fsdp=2,context=4", {"all-to-all": 4}),
        ("tensor=8", {}),
    ],
)
def test_nothing_else_is_sent(text, collectives):
    """In a ring: k and v once in the body of a loop of r-1 steps."""
    layout = _layout(text)
    spread = _place(layout, *inputs(64, 64, heads=HEADS))
    lowered = jax.jit(Attention(layout).self_attention, static_argnums=3).lower(*spread, 64)
    hlo = lowered.compile().as_text()
    kinds = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
    count = {kind: hlo.count(f" {kind}(") + hlo.count(f" {kind}-start(") for kind in kinds}
    assert {kind: n for kind, n in count.items() if n} == collectives


def test_a_ring_makes_one_step_less_than_it_has_devices():
    layout = _layout("context=8,ulysses=1")
    x = jnp.zeros((1, 64, HEADS, 8))
    jaxpr = str(jax.make_jaxpr(lambda *x: Attention(layout).self_attention(*x, 64))(x, x, x))
    assert jaxpr.count("ppermute[") == 2 and "length=7" in jaxpr


def test_sixteen_bits_stay_sixteen_bits_on_the_way():
    layout = _layout("context=8,ulysses=2")
    x = jnp.zeros((1, 64, HEADS, 8), jnp.bfloat16)
    jaxpr = str(jax.make_jaxpr(lambda *x: Attention(layout).self_attention(*x, 50))(x, x, x))
    sent = [line for line in jaxpr.splitlines() if "all_to_all[" in line or "ppermute[" in line]
    assert len(sent) == 6 and all(":bf16[" in line for line in sent)


def test_heads_that_ulysses_does_not_divide_are_an_error():
    layout = _layout("context=8")
    x = jnp.zeros((1, 64, 6, 8))
    with pytest.raises(UserError, match="ulysses=8 does not divide the 6 heads of a device"):
        Attention(layout).self_attention(x, x, x, 64)
