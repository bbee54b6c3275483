"""RMS norm and rotary positions of queries or keys in one pass, for TPUs.

In plain XLA the pairs of channels (2i, 2i+1), which lie in neighbouring lanes, make the compiler move whole arrays to
other layouts and back. Here a block of rows is read once: its norm over the whole width, and every channel times its
cosine plus its neighbours, a lane to the left and right, times sines that are zero where they are not the other of the
pair.

Shapes: B batch, L tokens, D width, N heads, K head width (D = N K).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from talkverse_jax.ops.attention.tiles import LANES, round_up
from talkverse_jax.ops.rope import RopeTables
from talkverse_jax.ops.turn_gradient import pulled_back
from talkverse_jax.sharding.layout import Layout

_ROWS = 256  # of a block


def can_turn(layout: Layout, head_width: int) -> bool:
    """Whether the kernel can run: on a TPU, heads as wide as the lanes, and rows whole on a device."""
    return layout.platform == "tpu" and head_width == LANES and not layout.axes_of("heads")


def normed_and_turned(
    layout: Layout,
    x: Float[Array, "B L D"],
    gain: Float[Array, " D"],
    tables: RopeTables,
    *,
    eps: float,
    dtype: Any,
    interpret: bool = False,
) -> Float[Array, "B L D"]:
    """Rows over the root of their mean square, times the gain, each head turned to its position; computed in float32.
    Gradients have a kernel of their own (`turn_gradient`); the tables get none.

    Args:
      x: split by the layout's `batch` and `tokens`.
      interpret: run the kernel step by step without a TPU, for tests.
    """
    spread = functools.partial(_spread, layout, x.shape)

    @jax.custom_vjp
    def turn(x, gain, angles):
        call = functools.partial(_call, eps=eps, dtype=dtype, interpret=interpret)
        return spread(call, angles, "rg", "r")(x, gain, *angles)

    def forward(x, gain, angles):
        return turn(x, gain, angles), (x, gain, angles)

    def backward(known, gradient):
        x, gain, angles = known

        def call(x, gradient, gain, *angles):
            return pulled_back(x, gradient, gain, angles, eps=eps, interpret=interpret)

        change, of_gain = spread(call, angles, "rrg", "rs")(x, gradient, gain, *angles)
        return change, of_gain.sum(axis=(0, 1, 2)).astype(gain.dtype), None

    turn.defvjp(forward, backward)
    return turn(x, gain, _of_lanes(tables))


def _spread(layout: Layout, shape: tuple[int, ...], call: Callable, angles: tuple[Array, ...], taken: str, given: str):
    """A kernel's call, for the rows of each device.

    Args:
      taken, given: its arguments before the angles, and its results: `r` rows, `g` gains, `s` sums of blocks of rows.
    """
    if layout.mesh is None or layout.mesh.size == 1:
        return call
    rows = layout.fitting_spec(shape, ("batch", "tokens", None))
    batch, tokens, _ = rows
    spec = {"r": rows, "g": PartitionSpec(None), "s": PartitionSpec(batch, tokens, None, None)}
    of_angles = PartitionSpec(tokens, None) if angles[0].ndim == 2 else PartitionSpec(batch, tokens, None)
    specs = (*(spec[each] for each in taken), of_angles, of_angles, of_angles)
    out: Any = tuple(spec[each] for each in given) if len(given) > 1 else spec[given]
    # kernels do not say over which axes their results vary
    return jax.shard_map(call, mesh=layout.mesh, in_specs=specs, out_specs=out, check_vma=False)


def _of_lanes(tables: RopeTables) -> tuple[Array, Array, Array]:
    """By lane: what it is multiplied with itself, and what its right and its left neighbour are."""
    cos, sin = (jnp.repeat(table, 2, axis=-1) for table in tables)
    even = jnp.arange(cos.shape[-1]) % 2 == 0
    return cos, jnp.where(even, -sin, 0), jnp.where(even, 0, sin)


def _call(x, gain, cos, right, left, *, eps: float, dtype, interpret: bool):
    batch, length, width = x.shape
    rows = min(_ROWS, round_up(length, 16))
    of_rows = pl.BlockSpec((None, rows, width), lambda i, b: (b, i, 0))
    of_angles = pl.BlockSpec((rows, LANES), lambda i, b: (i, 0))
    if cos.ndim == 3:
        of_angles = pl.BlockSpec((None, rows, LANES), lambda i, b: (b, i, 0))
    return pl.pallas_call(
        functools.partial(_turn, eps=eps),
        grid=(pl.cdiv(length, rows), batch),
        in_specs=[of_rows, pl.BlockSpec((1, width), lambda i, b: (0, 0)), of_angles, of_angles, of_angles],
        out_specs=of_rows,
        out_shape=jax.ShapeDtypeStruct(x.shape, dtype),
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        cost_estimate=pl.CostEstimate(flops=0, transcendentals=0, bytes_accessed=2 * x.size * x.dtype.itemsize),
        interpret=interpret,
        name="norm_and_turn",
    )(x, gain.astype(jnp.float32)[None], cos, right, left)


def _turn(x_ref: Any, gain_ref: Any, cos_ref: Any, right_ref: Any, left_ref: Any, out_ref: Any, *, eps: float) -> None:
    x = x_ref[...].astype(jnp.float32)
    x = x * lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + eps) * gain_ref[...]
    cos, right, left = cos_ref[...], right_ref[...], left_ref[...]
    for begin in range(0, x.shape[-1], LANES):
        head = x[:, begin : begin + LANES]
        turned = head * cos + pltpu.roll(head, LANES - 1, 1) * right + pltpu.roll(head, 1, 1) * left
        out_ref[:, begin : begin + LANES] = turned.astype(out_ref.dtype)
