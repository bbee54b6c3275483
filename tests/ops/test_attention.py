import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkverse_jax.ops import attention
from talkverse_jax.ops.rope import RopeTables, apply_rope, axis_widths, rope_tables


def _inputs(length=37, keys=29):
    k1, k2, k3 = jax.random.split(jax.random.key(0), 3)
    return (
        jax.random.normal(k1, (2, length, 3, 8)),
        jax.random.normal(k2, (2, keys, 3, 8)),
        jax.random.normal(k3, (2, keys, 3, 8)),
    )


def _plain(q, k, v):
    scores = np.einsum("blnk,bsnk->bnls", np.float64(q), np.float64(k)) / np.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bnls,bsnk->blnk", weights / weights.sum(-1, keepdims=True), np.float64(v))


def test_attention_is_softmax_attention():
    np.testing.assert_allclose(attention.default_attention(*_inputs()), _plain(*_inputs()), atol=1e-6)


@pytest.mark.parametrize("rows", [1, 8, 36])
def test_blocks_of_queries_change_nothing(monkeypatch, rows):
    whole = attention.xla_attention(*_inputs())
    monkeypatch.setattr(attention, "SCORE_BYTES", rows * 4 * 2 * 3 * 29)
    np.testing.assert_allclose(attention.xla_attention(*_inputs()), whole, atol=1e-6)


def test_a_long_sequence_keeps_its_scores_small():
    """24 heads at 13,000 tokens: 16 GB of scores whole."""
    shape = jax.ShapeDtypeStruct((1, 13_000, 24, 128), jnp.float32)
    compiled = jax.jit(attention.xla_attention).lower(shape, shape, shape).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 3 * 2**30


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
