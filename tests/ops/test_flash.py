"""Our kernel for TPUs: interpreted against plain attention, and compiled for TPUs that need not be there."""

import functools
import importlib.util
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkverse_jax.ops.attention import Attention, Segments, to_few, xla_attention
from talkverse_jax.ops.attention.flash import BLOCKS, FlashBlocks, flash_attention, takes
from talkverse_jax.ops.remat import rematerialised
from tests.ops.attention_cases import inputs, plain
from tests.ops.test_splash_tpu import HEADS, _array, _layout

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
BFLOAT16 = jnp.dtype(jnp.bfloat16)


def _run(sums: bool, queries: int = 32, keys: int = 64, few: int = 0):
    blocks = FlashBlocks(queries=queries, keys=keys, sum_by_product=sums, vmem=2**26, gradient=(64, 32), few=few)
    return functools.partial(flash_attention, blocks=blocks, otherwise=xla_attention, interpret=True)


def _halves(*arrays):
    return [jnp.asarray(x, jnp.bfloat16) for x in arrays]


@pytest.mark.parametrize("sums", [False, True], ids=["sum", "product"])
@pytest.mark.parametrize("length, keys", [(70, 150), (16, 64), (33, 128), (5, 40)])
def test_it_is_softmax_attention(length, keys, sums):
    """With blocks and parts that are full and that are not, as near as 16 bits come."""
    q, k, v = _halves(*inputs(length, keys, heads=2, width=128))
    out = _run(sums)(q, k, v)
    assert out.dtype == jnp.bfloat16 and out.shape == q.shape
    wanted = plain(*(np.asarray(x, np.float32) for x in (q, k, v)))
    np.testing.assert_allclose(np.asarray(out, np.float32), wanted, atol=0.012)
    nearest = np.abs(np.asarray(xla_attention(q, k, v), np.float32) - wanted).max()
    assert np.abs(np.asarray(out, np.float32) - wanted).max() < 2 * nearest


@pytest.mark.parametrize("sums", [False, True], ids=["sum", "product"])
def test_large_scores_overflow_nothing(sums):
    """The largest of each part above all before, and above what an exponential of 32 bits holds."""
    q, k, v = inputs(32, 192, heads=1, width=128)
    k = k * jnp.repeat(jnp.asarray([1.0, 30.0, 90.0]), 64)[None, :, None, None]
    q, k, v = _halves(q, k, v)
    scaled = (q.astype(jnp.float32) * (128**-0.5 * np.log2(np.e))).astype(jnp.bfloat16)  # as it rounds them
    scores = np.einsum("blnk,bsnk->bnls", *(np.asarray(x, np.float64) for x in (scaled, k)))
    assert scores.max() > 128
    weights = np.exp2(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    wanted = np.einsum("bnls,bsnk->blnk", weights, np.asarray(v, np.float64))
    np.testing.assert_allclose(np.asarray(_run(sums)(q, k, v), np.float32), wanted, atol=0.03)


@pytest.mark.parametrize("sums", [False, True], ids=["sum", "product"])
@pytest.mark.parametrize("segmented", [False, True])
def test_attention_to_few_keys(segmented, sums, monkeypatch):
    monkeypatch.setattr(to_few, "_QUERIES", 48)
    monkeypatch.setattr(to_few, "_PART", 32)
    q, k, v = _halves(*inputs(70, 150, heads=2, width=128))
    segments = Segments(jnp.arange(70) // 30, jnp.arange(150) // 50) if segmented else None
    mask = np.arange(70)[:, None] // 30 == np.arange(150) // 50 if segmented else None
    out = _run(sums, few=150)(q, k, v, segments)
    wanted = plain(*(np.asarray(x, np.float32) for x in (q, k, v)), mask)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(out, np.float32), wanted, atol=0.02)


def test_gradients_of_segments_are_anothers():
    q, k, v = _halves(*inputs(37, 29, heads=2, width=128))
    segments = Segments(jnp.arange(37) // 10, jnp.arange(29) // 8)

    def gradients(attend):
        return jax.grad(lambda *x: jnp.sin(attend(*x, segments)).astype(jnp.float32).sum(), argnums=(0, 1, 2))(q, k, v)

    for got, want in zip(gradients(_run(True, few=64)), gradients(xla_attention)):
        np.testing.assert_allclose(np.asarray(got, np.float32), np.asarray(want, np.float32), atol=0.02)


def test_what_it_cannot_do_another_kernel_does():
    q, k, v = _halves(*inputs(37, 29, heads=2, width=128))
    segments = Segments(jnp.arange(37) // 10, jnp.arange(29) // 8)
    run = _run(True)
    for given in ({"segments": segments}, {"segments": segments, "logsumexp": True}):
        for got, want in zip(jax.tree.leaves(run(q, k, v, **given)), jax.tree.leaves(xla_attention(q, k, v, **given))):
            np.testing.assert_array_equal(np.asarray(got, np.float32), np.asarray(want, np.float32))
    wide = inputs(37, 29, heads=2, width=128)
    np.testing.assert_array_equal(run(*wide), xla_attention(*wide))


@pytest.mark.parametrize("sums", [False, True], ids=["sum", "product"])
def test_it_tells_the_log_sum_exp(sums):
    q, k, v = _halves(*inputs(70, 150, heads=2, width=128))
    _, found = _run(sums)(q, k, v, logsumexp=True)
    _, wanted = xla_attention(*(x.astype(jnp.float32) for x in (q, k, v)), logsumexp=True)
    np.testing.assert_allclose(found, wanted, atol=0.01)


@pytest.mark.parametrize("length, keys", [(70, 150), (5, 64)])
def test_its_gradients_are_as_near_as_16_bits_come(length, keys):
    """With blocks of keys and parts of queries that are full and that are not."""
    q, k, v = inputs(length, keys, heads=2, width=128)

    def gradients(attend, *x):
        return jax.grad(lambda *x: jnp.sin(attend(*x).astype(jnp.float32)).sum(), argnums=(0, 1, 2))(*x)

    halves = _halves(q, k, v)
    exact = gradients(xla_attention, *(x.astype(jnp.float32) for x in halves))
    plainly = gradients(xla_attention, *halves)
    for got, near, want in zip(gradients(_run(True), *halves), plainly, exact):
        assert got.dtype == jnp.bfloat16
        off, least = (np.abs(np.asarray(x, np.float32) - want).max() for x in (got, near))
        assert off < max(2 * least, 0.02 * np.abs(want).max())


def test_gradients_of_scores_far_below_zero_are_numbers():
    q, k, v = _halves(*inputs(20, 40, heads=1, width=128))
    q, k = jnp.abs(q) * 4, -jnp.abs(k) * 4
    pulled = jax.grad(lambda *x: _run(True)(*x).astype(jnp.float32).sum(), argnums=(0, 1, 2))(q, k, v)
    assert all(bool(jnp.isfinite(x).all()) for x in pulled)


@pytest.mark.parametrize("remat, keys, kept", [("full", 160, 0), ("attention", 160, 2), ("attention", 16, 0)])
def test_a_backward_pass_may_find_its_result_kept(remat, keys, kept, capsys):
    attend = rematerialised(lambda x: jnp.sin(_run(True)(jnp.cos(x[:, :16]), x, x)), remat)
    x = jnp.zeros((1, keys, 1, 128), jnp.bfloat16)
    jax.ad_checkpoint.print_saved_residuals(lambda x: attend(x).astype(jnp.float32).sum(), x)
    assert capsys.readouterr().out.count("named 'attention'") == kept


def test_the_gradients_of_what_its_memory_cannot_hold_are_anothers():
    q, k, v = _halves(*inputs(37, 29, heads=2, width=128))
    small = functools.partial(flash_attention, otherwise=xla_attention, interpret=True)
    small = functools.partial(small, blocks=FlashBlocks(32, 64, True, 2**26, gradient=(32, 1)))

    def gradients(attend):
        return jax.grad(lambda *x: jnp.sin(attend(*x).astype(jnp.float32)).sum(), argnums=(0, 1, 2))(q, k, v)

    for got, want in zip(gradients(small), gradients(xla_attention)):
        np.testing.assert_array_equal(np.asarray(got, np.float32), np.asarray(want, np.float32))


@pytest.mark.parametrize("kind", BLOCKS)
def test_which_lengths_it_takes(kind):
    blocks = BLOCKS[kind]
    assert takes(blocks, BFLOAT16, 13_000, 128) and takes(blocks, BFLOAT16, 512, 128)
    assert not takes(blocks, BFLOAT16, 75_600, 128)  # keys and values of a head fill the vector memory
    assert not takes(blocks, BFLOAT16, 13_000, 64) and not takes(blocks, jnp.dtype(jnp.float32), 13_000, 128)


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize(
    "topology, mesh, tokens",
    [
        ("v6e:2x4", "context=8", 13_000),
        ("v6e:2x4", "context=8", 28_580),
        ("v5e:2x4", "context=8", 13_000),
        ("v5p:2x2x1", "context=4", 13_000),
        ("tpu7x:2x2x1", "context=8", 13_000),
    ],
)
def test_it_compiles_and_moves_no_axis(topology, mesh, tokens):
    layout = _layout(topology, mesh)
    x = _array(layout, tokens + -tokens % 8)
    hlo = jax.jit(Attention(layout).self_attention, static_argnums=3).lower(x, x, x, tokens).compile().as_text()
    (call,) = re.findall(r"flash_attention\S* = \S+ custom-call.*operand_layout_constraints={(.*?)}, f", hlo)
    width = HEADS * 128 // layout.mesh.shape["ulysses"]
    assert re.findall(r"bf16\[([\d,]+)\]", call) == [f"1,{tokens},{width}"] * 3


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize(
    "topology, mesh", [("v5e:2x4", "context=8"), ("v5p:2x2x1", "context=4"), ("tpu7x:2x2x1", "context=8")]
)
def test_its_gradients_compile(topology, mesh):
    """Where vector memory is scarcest."""
    layout = _layout(topology, mesh)
    x = _array(layout, 13_000)

    def loss(q, k, v):
        return Attention(layout).self_attention(q, k, v, 13_000).astype(jnp.float32).sum()

    hlo = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(x, x, x).compile().as_text()
    assert "flash_gradient" in hlo and "splash" not in hlo
