"""Layer norm and modulation in one pass, for TPUs: a block of rows is read once, and written as a product takes it.

In plain XLA the sums are a pass of their own, and where there are many vectors to pick from, each token's are gathered
into an array as large as the tokens. Here the matrix units pick them: a row of zeros and ones times the vectors, in
three parts of 16 bits, which together have all of a float32's digits.

Shapes: B batch, L tokens, D width, S segments of tokens.
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
from jaxtyping import Array, Float, Int

from talkverse_jax.ops.attention.tiles import LANES, ROWS, round_up
from talkverse_jax.ops.modulate_gradient import pulled_back
from talkverse_jax.ops.mosaic import product
from talkverse_jax.sharding.layout import Layout

_ROWS = 128  # of a block
_COLUMNS = 512  # that are modulated at once
_PARTS = 3  # of 16 bits, of a float32


def can_modulate(layout: Layout, width: int) -> bool:
    """Whether the kernel can run: on a TPU, with rows of whole lanes."""
    return layout.platform == "tpu" and width % LANES == 0


def normed_and_modulated(
    layout: Layout,
    x: Float[Array, "B L D"],
    shift: Float[Array, "B S D"],
    scale: Float[Array, "B S D"],
    segment: Int[Array, " L"],
    *,
    eps: float,
    dtype: Any,
    interpret: bool = False,
) -> tuple[Float[Array, "B L D"], Float[Array, "B L D"]]:
    """`x`, and its rows less their mean, over their deviation, times 1 + scale, plus shift; computed in float32.

    Gradients have a kernel of their own (`modulate_gradient`), which adds up that of both results: go on with the `x`
    that is returned.

    Args:
      x: split by the layout's `batch` and `stream`.
      shift, scale: split by its `batch`.
      segment: whose vectors a token takes.
      interpret: run the kernel step by step without a TPU, for tests.
    """
    spread = functools.partial(_spread, layout, x.shape)
    segments = shift.shape[1]

    @jax.custom_vjp
    def modulate(x, shift, scale, segment):
        call = functools.partial(_call, eps=eps, dtype=dtype, interpret=interpret)
        return x, spread(call, "rvvt", "r")(x, shift, scale, segment)

    def forward(x, shift, scale, segment):
        return modulate(x, shift, scale, segment), (x, scale, segment)

    def backward(known, gradients):
        def call(x, past, gradient, scale, segment):
            wanted = _wanted(segment, segments)
            factors = _in_parts(1 + scale, wanted.shape[1])
            picking = (wanted, factors, segment, segments)
            change, *sums = pulled_back(x, gradient, past, *picking, eps=eps, interpret=interpret)
            return change, *(each[:, None] for each in sums)

        x, scale, segment = known
        change, *sums = spread(call, "rrrvt", "rss")(x, *gradients, scale, segment)
        of_shift, of_scale = (each.sum(axis=1).astype(scale.dtype) for each in sums)
        return change, of_shift, of_scale, None

    modulate.defvjp(forward, backward)
    return modulate(x, shift, scale, segment)


def picked(vectors: Float[Array, "B S D"], segment: Int[Array, " L"] | None) -> Float[Array, "B #L D"]:
    """Each token's own of S vectors, or one that broadcasts. Of two, XLA picks as it reads and never stores any."""
    if segment is None or vectors.shape[1] == 1:
        return vectors
    if vectors.shape[1] == 2:
        return jnp.where(segment[:, None] == 1, vectors[:, 1:], vectors[:, :1])
    return jnp.take(vectors, segment, axis=1)


def _spread(layout: Layout, shape: tuple[int, ...], call: Callable, taken: str, given: str) -> Callable:
    """A kernel's call, for the rows of each device.

    Args:
      taken, given: its arguments and its results: `r` rows, `v` vectors, `t` the segments of tokens, `s` vectors of
        each device's rows along a second axis.
    """
    if layout.mesh is None or layout.mesh.size == 1:
        return call
    rows = layout.fitting_spec(shape, ("batch", "stream", None))
    batch, tokens, _ = rows
    spec = {
        "r": rows,
        "v": PartitionSpec(batch, None, None),
        "t": PartitionSpec(tokens),
        "s": PartitionSpec(batch, tokens, None, None),
    }
    out: Any = tuple(spec[each] for each in given) if len(given) > 1 else spec[given]
    # kernels do not say over which axes their results vary
    return jax.shard_map(
        call, mesh=layout.mesh, in_specs=tuple(spec[each] for each in taken), out_specs=out, check_vma=False
    )


def _call(x, shift, scale, segment, *, eps: float, dtype, interpret: bool):
    batch, length, width = x.shape
    wanted = _wanted(segment, shift.shape[1])
    count = wanted.shape[1]
    rows = min(_ROWS, round_up(length, ROWS))
    of_rows = pl.BlockSpec((None, rows, width), lambda b, i: (b, i, 0))
    of_vectors = pl.BlockSpec((None, count, width), lambda b, i: (b, 0, 0))
    return pl.pallas_call(
        functools.partial(_modulate, eps=eps),
        grid=(batch, pl.cdiv(length, rows)),
        in_specs=[of_rows, pl.BlockSpec((rows, count), lambda b, i: (i, 0)), of_vectors, of_vectors],
        out_specs=of_rows,
        out_shape=jax.ShapeDtypeStruct(x.shape, dtype),
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        cost_estimate=pl.CostEstimate(flops=0, transcendentals=0, bytes_accessed=2 * x.size * x.dtype.itemsize),
        interpret=interpret,
        name="norm_and_modulate",
    )(x, wanted, _in_parts(1 + scale, count), _in_parts(shift, count))


def _wanted(segment: Int[Array, " L"], segments: int) -> Float[Array, "L count"]:
    """Ones where a token's vectors are among those of `_in_parts`."""
    count = round_up(_PARTS * segments, ROWS)
    places = jnp.arange(count)
    return ((segment[:, None] == places % segments) & (places < _PARTS * segments)).astype(jnp.bfloat16)


def _in_parts(vectors: Float[Array, "B S D"], count: int) -> Float[Array, "B count D"]:
    """Three numbers of 16 bits whose sum is the float32, below each other."""
    rest, parts = vectors.astype(jnp.float32), []
    for _ in range(_PARTS):
        part = lax.reduce_precision(rest, 8, 7)  # a conversion there and back XLA may leave out
        parts.append(part)
        rest = rest - part
    below = jnp.concatenate(parts, axis=1).astype(jnp.bfloat16)
    return jnp.pad(below, ((0, 0), (0, count - below.shape[1]), (0, 0)))


def _modulate(x_ref: Any, wanted_ref: Any, scale_ref: Any, shift_ref: Any, out_ref: Any, *, eps: float) -> None:
    x = x_ref[...].astype(jnp.float32)
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    x = x * lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + eps)
    wanted, width = wanted_ref[...], x.shape[-1]
    for begin in range(0, width, _COLUMNS):
        part = slice(begin, min(begin + _COLUMNS, width))
        scale, shift = (product(wanted, ref[:, part], (1, 0)) for ref in (scale_ref, shift_ref))
        out_ref[:, part] = (x[:, part] * scale + shift).astype(out_ref.dtype)
