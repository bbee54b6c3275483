"""JAX's private names: the only file that knows them. Another version of JAX may have moved or changed one.

Tried with JAX 0.10.2. Each name is looked up when it is used, so that one that is gone takes nothing else with it.
"""

import importlib
from typing import Any

import jax

TRIED = ("0.10.2",)  # versions


def _private(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(f"jax._src.{module}"), name)
    except (ImportError, AttributeError) as error:
        raise ImportError(
            f"jax {jax.__version__}: no {name} in jax._src.{module} ({error}); install jax {' or '.join(TRIED)}"
        ) from error


def runtime() -> Any:
    """What this process knows of the others: `client` (the key-value store; None where it is alone), `process_id`,
    `num_processes`."""
    return _private("distributed", "global_state")


def on_tpu_host() -> bool:
    """Whether JAX, when it was imported, found TPU chips on the PCI bus."""
    return _private("cloud_tpu_init", "running_in_cloud_tpu_vm")


def fused_attention(*args: Any, **kwargs: Any) -> Any:
    """cuDNN's attention, whose log-sum-exp the public `jax.nn.dot_product_attention` rounds to 16 bits: too coarse to
    merge parts by."""
    return _private("cudnn.fused_attention_stablehlo", "dot_product_attention")(*args, **kwargs)
