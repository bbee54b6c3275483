"""Keep a model in host memory while it is not needed, for accelerators that cannot hold all at once.

Blocks that a model keeps there for good (`Layout.resident`) stay there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import jax
from flax import nnx
from jax import Device

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.stack import HOST
from talkverse_jax.core.tree import is_on_host

Module = TypeVar("Module", bound=nnx.Module)


def host_device() -> Device:  # pyright: ignore[reportInvalidTypeForm]  # jaxlib's stub has a variable
    """The CPU as a JAX device.

    Raises:
      UserError: JAX was started without it.
    """
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        settings: Any = jax.config  # its names are made at run time
        given = settings.jax_platforms
        raise UserError(f"JAX_PLATFORMS={given}: leaves out the CPU; set JAX_PLATFORMS={given},cpu") from None


def to_host(module: Module) -> Module:
    """The module with its parameters in the memory of the hosts, each host holding what its devices held."""
    return _moved(module, HOST)


@contextmanager
def resident(module: Module, offload: bool) -> Iterator[Module]:
    """The module in the accelerators' memory for the length of the block.

    With `offload` the module lives in host memory (see `to_host`): it is copied over here and the copy's memory
    is given back at the end. Without, it is on the accelerators already.
    """
    if not offload:
        yield module
        return
    graphdef, staying, state, rest = nnx.split(module, nnx.All(nnx.Param, is_on_host(module)), nnx.Param, ...)
    copy = _moved(state, "device")
    try:
        yield nnx.merge(graphdef, staying, copy, rest)
    finally:
        for leaf in jax.tree.leaves(copy):
            leaf.delete()


def _moved(module: Any, memory_kind: str) -> Any:
    return jax.tree.map(lambda x: jax.device_put(x, x.sharding.with_memory_kind(memory_kind)), module)
