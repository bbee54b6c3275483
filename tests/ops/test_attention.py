import logging
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.ops.attention import Attention, Segments, attention, in_query_blocks, xla, xla_attention
from talkverse_jax.ops.attention.cudnn import refusal as cudnn_refusal
from talkverse_jax.ops.attention.flash import BLOCKS, flash_attention
from talkverse_jax.ops.attention.splash import splash_attention
from talkverse_jax.ops.attention.tiles import LANES, TILES, WASTE, Tiles, fit
from talkverse_jax.ops.rope import RopeTables, apply_rope, axis_widths, rope_tables
from tests.ops.attention_cases import inputs, plain

SEGMENTS = Segments(jnp.arange(37) // 10, jnp.arange(29) // 8)
SEEN = np.asarray(SEGMENTS.queries)[:, None] == np.asarray(SEGMENTS.keys)


def _logsumexp(q, k, mask):
    scores = np.einsum("blnk,bsnk->blns", np.float64(q), np.float64(k)) / np.sqrt(q.shape[-1])
    seen = True if mask is None else np.asarray(mask)[:, None]
    return np.log(np.where(seen, np.exp(scores), 0).sum(-1))


def test_attention_is_softmax_attention():
    q, k, v = inputs(37, 29)
    np.testing.assert_allclose(Attention().cross_attention(q, k, v), plain(q, k, v), atol=1e-6)
    np.testing.assert_allclose(Attention().cross_attention(q, k, v, SEGMENTS), plain(q, k, v, SEEN), atol=1e-6)


def test_padding_counts_for_nothing():
    q, k, v = inputs(29, 29)
    out = Attention().self_attention(q, k, v, 20)
    np.testing.assert_allclose(out[:, :20], plain(q[:, :20], k[:, :20], v[:, :20]), atol=1e-6)
    assert out.shape == q.shape and np.isfinite(out).all()


@pytest.mark.parametrize("segments, mask", [(None, None), (SEGMENTS, SEEN)], ids=["whole", "segments"])
@pytest.mark.parametrize("rows", [1, 8, 36, 37])
def test_blocks_of_queries_change_nothing(monkeypatch, rows, segments, mask):
    q, k, v = inputs(37, 29)
    monkeypatch.setattr(xla, "SCORE_BYTES", rows * 4 * 2 * 3 * 29)
    np.testing.assert_allclose(xla_attention(q, k, v, segments), plain(q, k, v, mask), atol=1e-6)
    out, total = xla_attention(q, k, v, segments, logsumexp=True)
    np.testing.assert_allclose(out, plain(q, k, v, mask), atol=1e-6)
    np.testing.assert_allclose(total, _logsumexp(q, k, mask), atol=1e-6)


def test_blocks_are_no_larger_than_they_may_be(monkeypatch):
    seen = []
    monkeypatch.setattr(xla, "SCORE_BYTES", 10 * 4 * 2 * 3 * 29)
    in_query_blocks(lambda block: seen.append(block.shape[1]) or block, inputs(37, 29)[0], 29)
    assert seen and max(seen) <= 10


def test_a_long_sequence_keeps_its_scores_small():
    """24 heads at 13,000 tokens: 16 GB of scores whole."""
    shape = jax.ShapeDtypeStruct((1, 13_000, 24, 128), jnp.float32)
    gradient = jax.grad(lambda *x: xla_attention(*x).sum(), argnums=(0, 1, 2))
    for function, most in ((xla_attention, 3), (gradient, 4)):
        compiled = jax.jit(function).lower(shape, shape, shape).compile()
        assert compiled.memory_analysis().temp_size_in_bytes < most * 2**30


@pytest.mark.parametrize("segments", [False, True], ids=["padding", "segments"])
def test_splash_is_softmax_attention(segments):
    """The kernel itself, interpreted; 150 queries and 140 keys fill no block."""
    q, k, v = inputs(150, 140, heads=2, width=64)
    segments = Segments(jnp.arange(150) // 40, jnp.arange(140) // 36) if segments else None
    mask = None if segments is None else np.asarray(segments.queries)[:, None] == np.asarray(segments.keys)
    run = dict(tiles=Tiles(128, 128), interpret=True)
    out, total = splash_attention(q, k, v, segments, logsumexp=True, **run)
    np.testing.assert_allclose(out, plain(q, k, v, mask), atol=3e-6)
    np.testing.assert_allclose(total, _logsumexp(q, k, mask), atol=3e-6)
    np.testing.assert_allclose(splash_attention(q, k, v, segments, **run), plain(q, k, v, mask), atol=3e-6)

    def gradients(attend):
        return jax.grad(lambda *x: jnp.sin(attend(*x)).sum(), argnums=(0, 1, 2))(q, k, v)

    wanted = gradients(lambda *x: xla_attention(*x, segments))
    for got, want in zip(gradients(lambda *x: splash_attention(*x, segments, **run)), wanted):
        np.testing.assert_allclose(got, want, atol=5e-6)


@pytest.mark.parametrize("kind", TILES)
@pytest.mark.parametrize("length", [12_400, 13_000, 27_280, 28_580, 31_200])
def test_blocks_waste_little(kind, length):
    blocks = fit(TILES[kind], length, length)
    assert blocks.padded_queries * blocks.padded_keys <= WASTE * length**2
    assert blocks.queries >= 768 and blocks.keys >= 768


@pytest.mark.parametrize("kind", TILES)
def test_blocks_of_a_ring_waste_little(kind):
    blocks = fit(TILES[kind], 1625, 1625, 16)
    assert blocks.padded_queries * blocks.padded_keys <= WASTE * 1625**2


@pytest.mark.parametrize("kind", TILES)
def test_blocks_are_whole(kind):
    tiles = TILES[kind]
    for length in [*range(1, 3000, 61), *range(3000, 33_000, 977)]:
        for multiple in (16, LANES):
            blocks = fit(tiles, length, length, multiple)
            assert blocks.keys % LANES == 0 and blocks.queries % multiple == 0
            assert blocks.padded_keys % blocks.keys == 0 and blocks.padded_keys >= length
            assert blocks.padded_queries % blocks.queries == 0 and blocks.padded_queries >= length
            assert blocks.queries * blocks.keys <= 1.25 * tiles.queries * tiles.keys


def _on(platform, kind="", **kwargs):
    """Attention on one device that is not there."""
    device = SimpleNamespace(platform=platform, device_kind=kind)
    layout = SimpleNamespace(platform=platform, device_kind=device.device_kind, mesh=None)
    return Attention(layout, **kwargs)


def test_auto_takes_the_fastest_that_can_run(caplog):
    q = jnp.zeros((1, 4, 2, 128), jnp.bfloat16)
    assert _on("cpu")._kernel(q) is xla_attention
    assert _on("gpu")._kernel(q) is attention.cudnn.cudnn_attention
    flash = _on("tpu", "TPU v6 lite")._kernel(q)
    assert flash.func is flash_attention and flash.keywords["blocks"] == BLOCKS["TPU v6 lite"]
    splash = flash.keywords["otherwise"]
    assert splash.func is splash_attention and splash.keywords["tiles"] == TILES["TPU v6 lite"]
    assert not caplog.records


def test_auto_says_once_why_it_falls_back(caplog):
    attention._say_once.cache_clear()
    q = jnp.zeros((1, 4, 2, 128), jnp.float32)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert _on("gpu")._kernel(q) is xla_attention
    line = "attention: xla instead of cudnn: it takes bfloat16 or float16, not float32"
    assert [record.getMessage() for record in caplog.records] == [line]


@pytest.mark.parametrize(
    "platform, kernel, dtype, width, reason",
    [
        ("cpu", "splash", "bfloat16", 128, "it runs on TPUs, not on a cpu"),
        ("tpu", "splash", "bfloat16", 80, "it takes heads of 64, 128, ... channels, not 80"),
        ("cpu", "cudnn", "bfloat16", 128, "it runs on NVIDIA GPUs, not on a cpu"),
        ("gpu", "cudnn", "float32", 128, "it takes bfloat16 or float16, not float32"),
        ("gpu", "cudnn", "bfloat16", 136, "it takes heads of 8, 16, ... 128 channels, not 136"),
    ],
)
def test_a_chosen_kernel_that_cannot_run_is_an_error(platform, kernel, dtype, width, reason):
    q = jnp.zeros((1, 4, 2, width), dtype)
    with pytest.raises(UserError) as error:
        _on(platform, "TPU v6 lite", kernel=kernel).self_attention(q, q, q, 4)
    assert str(error.value) == f"--attention {kernel}: {reason}; choose auto or xla"


def test_cudnn_takes_what_it_can():
    assert cudnn_refusal("gpu", jnp.dtype(jnp.bfloat16), 64) is None
    assert cudnn_refusal("gpu", jnp.dtype(jnp.float16), 128) is None


def test_rope_turns_pairs_by_position():
    tables = rope_tables(np.array([[0, 0, 0], [5, 2, 1], [-5, 2, 1]]), 128)
    assert axis_widths(128) == (44, 42, 42)
    x = jax.random.normal(jax.random.key(0), (1, 3, 2, 128))
    turned = apply_rope(x, tables)
    np.testing.assert_allclose(turned[:, 0], x[:, 0], atol=1e-6)  # at the origin nothing turns
    np.testing.assert_allclose(jnp.linalg.norm(turned, axis=-1), jnp.linalg.norm(x, axis=-1), rtol=1e-5)
    # a negative frame is the other way round: turning by both gives the frame's channels back
    back = apply_rope(apply_rope(x[:, 1:2], RopeTables(*(t[1:2] for t in tables))), _row(tables, 2))
    np.testing.assert_allclose(back[..., :44], x[:, 1:2, :, :44], atol=1e-5)


def _row(tables, i):
    return RopeTables(*(t[i : i + 1] for t in tables))
