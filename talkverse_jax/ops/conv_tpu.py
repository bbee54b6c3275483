"""Our convolution kernel for TPUs: a block of rows is multiplied by all taps in vector memory.

XLA takes minutes to compile a 3-D convolution of the video autoencoder; as 2-D ones it keeps a v6e's matrix units busy
a third of the time, moves between layouts included. Here a step of the grid takes a block of rows of `t` frames, and
one row more above and below. Each row is laid beside itself shifted by one column to the right and to the left, so that
a product over three times the channels is a row of taps; frames and rows of taps are other rows of the same block.
Float32 is multiplied as the sum of two 16-bit numbers, in three products ("high").

Several devices that split the rows or columns give their neighbours the outermost ones.

Shapes: B batch, T frames, F = T - t + 1, H W rows and columns, C channels in, D channels out.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from talkverse_jax.ops.attention.tiles import LANES, round_up
from talkverse_jax.ops.mosaic import product
from talkverse_jax.sharding.layout import Layout

_PIXELS = 1536  # of a block, at most: by the schedule 1,280 of them with 256 channels use 96% of a v6e
_CHANNELS = 256  # of a block of those that come out
_MIB = 2**20
_WEIGHTS = 18 * _MIB  # in vector memory, of a block; there are two of them
_VMEM = 60 * _MIB  # that the kernel may take; a v5p and a TPU 7x have 64


def conv3d_tpu(
    x: Float[Array, "B T H W C"],
    kernel: Float[Array, "t 3 3 C D"],
    bias: Float[Array, " D"] | None = None,
    residual: Float[Array, "B F H W D"] | None = None,
    *,
    layout: Layout,
    axes: tuple[str | None, ...],
    interpret: bool = False,
) -> Float[Array, "B F H W D"]:
    """3-D convolution without padding in time and with zero padding to the same rows and columns.

    Args:
      bias, residual: added in float32; with a residual the result is float32.
      axes: the logical axes of `x`, of which the third and fourth are split among neighbours.
      interpret: run the kernel step by step without a TPU, for tests.
    """
    call = functools.partial(_on_device, interpret=interpret)
    bias = jnp.zeros(kernel.shape[-1], jnp.float32) if bias is None else bias.astype(jnp.float32)
    args = x, kernel, bias, residual
    if layout.mesh is None or layout.mesh.size == 1:
        return call(*args)
    spec = layout.fitting_spec(x.shape, axes)
    call = functools.partial(call, rows=spec[2], columns=spec[3])
    specs = spec, PartitionSpec(), PartitionSpec(), spec
    # kernels do not say over which axes their results vary
    return jax.shard_map(call, mesh=layout.mesh, in_specs=specs, out_specs=spec, check_vma=False)(*args)


def _on_device(x, kernel, bias, residual, *, rows: Any = None, columns: Any = None, interpret: bool):
    """A device's part, with the mesh axes that split rows and columns."""
    above, below = _neighbours(x, 2, rows)
    x = jnp.concatenate([above, x, below], axis=2)
    beside = jnp.concatenate(_neighbours(x, 3, columns), axis=3) if columns else None
    return _call(x, beside, kernel, bias, residual, interpret)


def _neighbours(x: Array, axis: int, split: Any) -> tuple[Array, Array]:
    """What lies before and behind along an axis: of the devices beside this one, zeros at the border."""
    first, last = lax.slice_in_dim(x, 0, 1, axis=axis), lax.slice_in_dim(x, -1, None, axis=axis)
    if not split:
        return jnp.zeros_like(first), jnp.zeros_like(last)
    names = (split,) if isinstance(split, str) else tuple(split)
    count = lax.axis_size(names)
    onward = [(at, at + 1) for at in range(count - 1)]
    backward = [(to, at) for at, to in onward]
    return lax.ppermute(last, names, onward), lax.ppermute(first, names, backward)


def _call(x, beside, kernel, bias, residual, interpret: bool) -> Float[Array, "B F H W D"]:
    batch, frames, height, width, channels = x.shape
    taps, out_dim, dtype = kernel.shape[0], kernel.shape[-1], x.dtype
    padding = round_up(channels, LANES) - channels
    if padding:
        widen = lambda y: jnp.pad(y, [(0, 0)] * 4 + [(0, padding)])  # noqa: E731
        x, beside = widen(x), None if beside is None else widen(beside)
        kernel = jnp.pad(kernel, [(0, 0)] * 3 + [(0, padding), (0, 0)])
        channels += padding
    kernel = kernel.reshape(taps, 3, 3 * channels, out_dim)
    # XLA would take a cast there and back away.
    weights = _parts(kernel, lax.reduce_precision(kernel, exponent_bits=8, mantissa_bits=7))
    height, frames = height - 2, frames - taps + 1
    rows = max(n for n in range(1, height + 1) if height % n == 0 and (n == 1 or n * width <= _PIXELS))
    columns = min(out_dim, _CHANNELS)
    while len(weights) * taps * 9 * channels * columns * 2 > _WEIGHTS and columns % (2 * LANES) == 0:
        columns //= 2

    def of_frame(tap: int, across: int) -> pl.BlockSpec:
        shape = [pl.Element(n) for n in (1, 1, rows + 2, across, channels)]
        return pl.BlockSpec(shape, lambda d, b, t, r: (b, t + tap, r * rows, 0, 0))

    of_weights = pl.BlockSpec((taps, 3, 3 * channels, columns), lambda d, b, t, r: (0, 0, 0, d))
    inputs = [(x, of_frame(tap, width)) for tap in range(taps)]
    if beside is not None:
        inputs += [(beside, of_frame(tap, 2)) for tap in range(taps)]
    of_made = pl.BlockSpec((None, None, rows, width, columns), lambda d, b, t, r: (b, t, r, 0, d))
    inputs += [(part, of_weights) for part in weights]
    inputs.append((bias[None], pl.BlockSpec((1, columns), lambda d, b, t, r: (0, d))))
    if residual is not None:
        inputs.append((residual, of_made))
    arrays, specs = zip(*inputs)
    made = (batch, frames, height, width, out_dim)
    blocks = pl.cdiv(out_dim, columns)
    return pl.pallas_call(
        functools.partial(_multiply, taps=taps, split=beside is not None, parts=len(weights)),
        grid=(blocks, batch, frames, height // rows),
        in_specs=specs,
        out_specs=of_made,
        out_shape=jax.ShapeDtypeStruct(made, dtype if residual is None else jnp.float32),
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",) * 4, vmem_limit_bytes=_VMEM),
        cost_estimate=pl.CostEstimate(
            flops=2 * taps * 9 * batch * frames * height * width * channels * out_dim,
            transcendentals=0,
            bytes_accessed=taps * blocks * x.size * x.dtype.itemsize + kernel.size * 2,
        ),
        interpret=interpret,
        name="conv3d",
    )(*arrays)


def _multiply(*refs: Any, taps: int, split: bool, parts: int) -> None:
    """A block of rows: all taps of all channels in."""
    frames, refs = refs[:taps], refs[taps:]
    beside, refs = (refs[:taps], refs[taps:]) if split else ((None,) * taps, refs)
    weights, (bias_ref, *residual_ref, out_ref) = refs[:parts], refs[parts:]
    rows, width, columns = out_ref.shape
    total = jnp.zeros((rows * width, columns), jnp.float32)
    for tap, (frame, sides) in enumerate(zip(frames, beside)):
        shifted = [_shifted(frame[0, 0, r], None if sides is None else sides[0, 0, r]) for r in range(rows + 2)]
        stacked = jnp.stack(shifted)
        wide = _parts(stacked, stacked.astype(jnp.bfloat16))
        for y in range(3):
            seen = [part[y : y + rows].reshape(rows * width, -1) for part in wide]
            for part, by in _PRODUCTS[len(weights)]:
                total += product(seen[part], weights[by][tap, y], (1, 0))
    made = (total + bias_ref[...]).reshape(rows, width, columns)
    if residual_ref:
        made += residual_ref[0][...].astype(jnp.float32)
    out_ref[...] = made.astype(out_ref.dtype)


_PRODUCTS = {1: ((0, 0),), 2: ((0, 1), (1, 0), (0, 0))}  # of parts, the small ones first


def _parts(x: Array, rounded: Array) -> list[Array]:
    """16-bit numbers whose sum `x` is: itself, or for float32 what it is rounded to and what is left."""
    if x.dtype == jnp.bfloat16:
        return [x]
    return [rounded.astype(jnp.bfloat16), (x - rounded.astype(x.dtype)).astype(jnp.bfloat16)]


def _shifted(row: Float[Array, "W C"], sides: Float[Array, "2 C"] | None) -> Float[Array, "W 3*C"]:
    """Beside each column the one on its left, before, and on its right, behind."""
    before, behind = (jnp.zeros_like(row[:1]),) * 2 if sides is None else (sides[:1], sides[1:])
    left = jnp.concatenate([before, row[:-1]])
    right = jnp.concatenate([row[1:], behind])
    return jnp.concatenate([left, row, right], axis=1)
