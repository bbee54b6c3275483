"""Keep a model in host memory while it is not needed, for accelerators that cannot hold all at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import jax
from flax import nnx

from talkverse_jax.core.errors import UserError

Module = TypeVar("Module", bound=nnx.Module)


def host_device() -> jax.Device:
    """The CPU as a JAX device.

    Raises:
      UserError: JAX was started without it.
    """
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        given = jax.config.jax_platforms
        raise UserError(f"JAX_PLATFORMS={given}: leaves out the CPU; set JAX_PLATFORMS={given},cpu") from None


def to_host(module: Module) -> Module:
    """The module with its parameters in the host's memory (as they are where the host is the device)."""
    return jax.device_put(module, host_device())


@contextmanager
def resident(module: Module, offload: bool) -> Iterator[Module]:
    """The module on the accelerator for the length of the block.

    With `offload` the module lives in host memory: it is copied over here and the copy's memory is given
    back at the end. Without, it is on the accelerator already.
    """
    if not offload or jax.default_backend() == "cpu":
        yield module
        return
    copy = jax.device_put(module, jax.local_devices()[0])
    try:
        yield copy
    finally:
        for leaf in jax.tree.leaves(copy):
            leaf.delete()
