"""Parts `attention` and `products` of `gpu.py`: kernels alone, at the shapes of a step.

What is not installed, or does not run on this device, is named in the figures and stops nothing.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from gpu_report import PartReport
from gpu_workload import Workload, keys, normal

from talkverse_jax.ops.attention.cudnn import cudnn_attention
from talkverse_jax.ops.attention.xla import xla_attention
from talkverse_jax.ops.flops import attention as attention_flops
from talkverse_jax.ops.flops import linear
from talkverse_jax.ops.int8 import int8_matmul

BLOCK = 256  # tokens: kernels that take whole blocks get so many more
CHECKED = 64  # queries whose result is compared
TOKAMAX = ("mosaic_gpu", "triton", "cudnn", "xla_chunked")
MOSAIC_BLOCKS = ((128, 128, 2), (64, 128, 2), (128, 64, 4))  # queries, keys, steps at once
TRITON_BLOCKS = ((128, 64), (64, 64))


def attention(job: Workload, report: PartReport) -> None:
    """Self-attention of both branches by every kernel there is, against XLA's in float32."""
    trunk = job.dit.trunk
    whole = -(-job.tokens // BLOCK) * BLOCK
    inputs = {n: _queries_keys_values(job, n) for n in (job.tokens, whole)}
    exact = {n: _exact(*arrays) for n, arrays in inputs.items()}
    for name, (tokens, kernel) in _kernels(job.tokens, whole, trunk.head_dim).items():
        flops = attention_flops(2 * tokens, tokens, trunk.dim)

        def measure(kernel=kernel, tokens=tokens, flops=flops) -> dict[str, Any]:
            run, arrays = jax.jit(kernel()), inputs[tokens]
            error = jnp.abs(run(*arrays)[:, :CHECKED].astype(jnp.float32) - exact[tokens]).max()
            return timed_product(lambda: run(*arrays), job, flops) | {"tokens": tokens, "error": float(error)}

        report.attempt_row("kernels", name, measure)
    report.peak()


def _queries_keys_values(job: Workload, tokens: int) -> tuple[jax.Array, ...]:
    shape = (2, tokens, job.dit.trunk.num_heads, job.dit.trunk.head_dim)
    return tuple(normal(key, shape, jnp.bfloat16) for key, _ in zip(keys(6), range(3)))


def _exact(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    with jax.default_matmul_precision("highest"):
        return jax.jit(xla_attention)(*(x.astype(jnp.float32) for x in (q[:, :CHECKED], k, v)))


def _kernels(tokens: int, whole: int, width: int) -> dict[str, tuple[int, Callable[[], Callable]]]:
    """How many tokens each takes, and how it is made: packages are imported when it is its turn."""
    found: dict[str, tuple[int, Callable[[], Callable]]] = {
        "cudnn": (tokens, lambda: cudnn_attention),
        "cudnn, whole blocks": (whole, lambda: cudnn_attention),
        "xla": (tokens, lambda: xla_attention),
    }
    for blocks in MOSAIC_BLOCKS:
        found[f"mosaic_gpu {blocks}"] = whole, lambda blocks=blocks: _mosaic(blocks, width)
    for blocks in TRITON_BLOCKS:
        found[f"triton {blocks}"] = whole, lambda blocks=blocks: _triton(blocks, width)
    return found | {f"tokamax {name}": (tokens, lambda name=name: _tokamax(name)) for name in TOKAMAX}


def _mosaic(blocks: tuple[int, int, int], width: int) -> Callable:
    """JAX's own FlashAttention-3 for Hopper cards; it scales nothing itself."""
    from jax.experimental.pallas.ops.gpu import attention_mgpu

    config = attention_mgpu.TuningConfig(*blocks)
    return lambda q, k, v: attention_mgpu.attention((q * width**-0.5).astype(q.dtype), k, v, config)


def _triton(blocks: tuple[int, int], width: int) -> Callable:
    from jax.experimental.pallas.ops.gpu import attention as pallas_attention

    sizes = pallas_attention.BlockSizes(*blocks)
    interpret = jax.default_backend() == "cpu"
    return lambda q, k, v: pallas_attention.mha(
        q, k, v, None, sm_scale=width**-0.5, block_sizes=sizes, interpret=interpret
    )


def _tokamax(implementation: str) -> Callable:
    import tokamax  # optional
    from absl import flags  # what it reads its settings from

    flags.FLAGS.mark_as_parsed()
    return lambda q, k, v: tokamax.dot_product_attention(q, k, v, implementation=implementation)


def products(job: Workload, report: PartReport) -> None:
    """A block's linear layers in bfloat16, float8 and int8, with the rounding of rows and without."""
    trunk, rows = job.dit.trunk, 2 * job.tokens
    for inputs, outputs in ((trunk.dim, trunk.dim), (trunk.dim, trunk.ffn_dim), (trunk.ffn_dim, trunk.dim)):
        key = keys(7)
        x = normal(next(key), (rows, inputs), jnp.bfloat16)
        kernel = normal(next(key), (inputs, outputs), jnp.bfloat16, std=inputs**-0.5)
        flops = linear(rows, inputs, outputs)
        for name, make in _PRODUCTS.items():

            def measure(make=make, x=x, kernel=kernel, flops=flops) -> dict[str, Any]:
                run, *arrays = make(x, kernel)
                run = jax.jit(run)
                return timed_product(lambda: run(*arrays), job, flops)

            report.attempt_row("products", f"{rows}x{inputs}x{outputs} {name}", measure)
    report.peak()


def _int8(x, kernel):
    scale = jnp.abs(kernel.astype(jnp.float32)).max(axis=0) / 127
    return int8_matmul, x, jnp.round(kernel / scale).astype(jnp.int8), scale


def _int8_alone(x, kernel):
    _, _, numbers, _ = _int8(x, kernel)
    rounded = jnp.round(x.astype(jnp.float32) * 20).astype(jnp.int8)
    return lambda x, kernel: jnp.matmul(x, kernel, preferred_element_type=jnp.int32), rounded, numbers


def _float8(x, kernel):
    _, _, numbers = _float8_alone(x, kernel)

    def run(x, numbers):
        step = jnp.abs(x).max().astype(jnp.float32) / 448  # the largest number of float8_e4m3fn
        rounded = (x / step).astype(jnp.float8_e4m3fn)
        return (jnp.matmul(rounded, numbers, preferred_element_type=jnp.float32) * step).astype(x.dtype)

    return run, x, numbers


def _float8_alone(x, kernel):
    def run(x, numbers):
        return jnp.matmul(x, numbers, preferred_element_type=jnp.bfloat16)

    return run, x.astype(jnp.float8_e4m3fn), (kernel * 64).astype(jnp.float8_e4m3fn)


_PRODUCTS: dict[str, Callable[..., Any]] = {
    "bfloat16": lambda x, kernel: (jnp.matmul, x, kernel),
    "float8, rounded as it goes": _float8,
    "float8": _float8_alone,
    "int8, rounded as it goes": _int8,
    "int8": _int8_alone,
}


def timed_product(run: Callable[[], Any], job: Workload, flops: int) -> dict[str, Any]:
    """Milliseconds of a call among several that the device does without waiting, and its FLOP/s."""
    jax.block_until_ready(run())
    seconds = []
    for _ in range(job.repeats):
        begin = time.perf_counter()
        last = None
        for _ in range(job.calls):
            last = run()
        jax.block_until_ready(last)
        seconds.append((time.perf_counter() - begin) / job.calls)
    median = statistics.median(seconds)
    return {"ms": 1e3 * median, "tflops_a_second": flops / median / 1e12}
