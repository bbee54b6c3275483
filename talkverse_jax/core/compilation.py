"""`jax.jit` for programs that hold a large model's weights."""

import functools
from collections.abc import Callable
from typing import Any

import jax

# XLA's CPU scheduler of JAX 0.10 turns all bfloat16 weights of a program to float32 before the first product
# (3 of 30 blocks: 2.15 GB of temporaries for 1.08 GB of weights); this one does it as they come (0.23 GB).
_CPU_OPTIONS = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}

# The all-to-alls of Ulysses go on beside the products of other projections: of a step on eight v6e chips 3.8 ms are
# left to wait for, of 9.1 (by schedule; libtpu 0.0.52).
_TPU_OPTIONS = {"xla_tpu_enable_async_all_to_all": True}

_OPTIONS: dict[str, dict[str, Any]] = {"cpu": _CPU_OPTIONS, "tpu": _TPU_OPTIONS}

# By `device_kind`, of programs that gather weights and share out gradients as they go: the sparse cores of a v6e do so
# beside the products. Without these options every gather is waited for, and products of gradients are cut into one for
# each device, which reads all of its input (libtpu 0.0.52).
_SHARED_WEIGHTS: dict[str, dict[str, Any]] = {
    "TPU v6 lite": {
        "xla_tpu_enable_sparse_core_collective_offload_all_gather": True,
        "xla_tpu_enable_sparse_core_collective_offload_reduce_scatter": True,
        "xla_tpu_enable_windowed_einsum_for_reduce_scatter": False,
    }
}


def model_jit(function: Callable, *, shares_weights: str | None = None, **kwargs) -> Callable:
    """`jax.jit` with the compiler options of the platform: of the backend at hand, or, through `.jitted(platform)`, of
    one that is only compiled for.

    Args:
      shares_weights: the kind of device, where the program gathers weights and shares out their gradients as it goes.
    """
    of_kind = _SHARED_WEIGHTS.get(shares_weights or "", {})

    @functools.cache
    def of(platform: str):
        return jax.jit(function, compiler_options=_OPTIONS.get(platform, {}) | of_kind, **kwargs)

    def jitted(platform: str | None = None):
        return of(platform or jax.default_backend())  # asked for at the first call; one object, whoever asks

    @functools.wraps(function)
    def call(*args, **kwargs):
        return jitted()(*args, **kwargs)

    call.jitted = jitted  # pyright: ignore[reportAttributeAccessIssue]  # a function may have attributes
    return call
