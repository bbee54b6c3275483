"""`jax.jit` for programs that hold a large model's weights."""

import functools
from collections.abc import Callable

import jax

# XLA's CPU scheduler of JAX 0.10 turns all bfloat16 weights of a program to float32 before the first product
# (3 of 30 blocks: 2.15 GB of temporaries for 1.08 GB of weights); this one does it as they come (0.23 GB).
_CPU_OPTIONS = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}

# The all-to-alls of Ulysses go on beside the products of other projections: of a step on eight v6e chips 3.8 ms are
# left to wait for, of 9.1 (by schedule; libtpu 0.0.52).
_TPU_OPTIONS = {"xla_tpu_enable_async_all_to_all": True}

_OPTIONS = {"cpu": _CPU_OPTIONS, "tpu": _TPU_OPTIONS}


def model_jit(function: Callable, **kwargs) -> Callable:
    """`jax.jit` with the compiler options of the platform: of the backend at hand, or, through `.jitted(platform)`, of
    one that is only compiled for."""

    @functools.cache
    def of(platform: str):
        return jax.jit(function, compiler_options=_OPTIONS.get(platform), **kwargs)

    def jitted(platform: str | None = None):
        return of(platform or jax.default_backend())  # asked for at the first call; one object, whoever asks

    @functools.wraps(function)
    def call(*args, **kwargs):
        return jitted()(*args, **kwargs)

    call.jitted = jitted  # pyright: ignore[reportAttributeAccessIssue]  # a function may have attributes
    return call
