"""A linear layer that may carry a low-rank adapter (LoRA), whose product is added to its kernel (`ops/low_rank`), or
whose kernel may be int8 with a scale for each output.

Shapes: I inputs, O outputs, r rank.
"""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from talkverse_jax.ops import low_rank
from talkverse_jax.ops.int8 import int8_matmul
from talkverse_jax.ops.names import Products
from talkverse_jax.weights.int8 import multiplied

Model = TypeVar("Model", bound=nnx.Module)


class Adapter(nnx.Module):
    """Adds `scale A B` to a layer's kernel. Those of stacked layers lie along a first axis.

    Args:
      a, b: [*S, I, r] and [*S, r, O], arrays or their shapes.
      scale: alpha / r.
      dtype: of the layer's products.
    """

    def __init__(
        self,
        a: Float[Array, "*S I r"] | jax.ShapeDtypeStruct,
        b: Float[Array, "*S r O"] | jax.ShapeDtypeStruct,
        scale: float,
        dtype,
    ):
        self.a: nnx.Param[Any] = nnx.Param(a)
        self.b: nnx.Param[Any] = nnx.Param(b)
        self.scale = scale
        self.dtype = dtype

    @property
    def factors(self) -> tuple[Float[Array, "*S I r"], Float[Array, "*S r O"]]:
        """A and B as they are multiplied."""
        return self.a.get_value().astype(self.dtype), self.b.get_value().astype(self.dtype)


class Linear(nnx.Linear):
    """`nnx.Linear`, with an adapter once `attach` has given it one, or of int8 once `quantise` has made it so."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.adapter = nnx.data(None)
        self.joined = False
        self.scale: Any = nnx.data(None)
        self.products: Products = "float"

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]  # nobody passes a sharding
        self, x: Float[Array, "*L I"]
    ) -> Float[Array, "*L O"]:
        if self.adapter is not None:
            return self._adapted(x, self.adapter)
        return super().__call__(x) if self.scale is None else self._of_int8(x)

    def join(self) -> None:
        """Within a trace, of a module that only this trace has: add the adapter's product to the kernel."""
        if self.adapter is not None and not self.joined:
            self.kernel: nnx.Param[Any] = nnx.Param(self._with_adapter(self.adapter))
            self.joined = True

    def attach(self, rank: int, alpha: float, param_dtype) -> None:
        """Give the layer, or the stacked layers it stands for, an adapter: of shapes alone, to be filled like
        those of any other parameter."""
        *stack, inputs, outputs = self.kernel.get_value().shape
        shapes = ((*stack, *ends) for ends in ((inputs, rank), (rank, outputs)))
        a, b = (jax.ShapeDtypeStruct(shape, param_dtype) for shape in shapes)
        self.adapter = Adapter(a, b, alpha / rank, self.dtype or jnp.float32)

    def quantise(self, products: Products) -> None:
        """Give the layer, or the stacked layers it stands for, a kernel of int8 and its scales: shapes, likewise.

        Args:
          products: what is multiplied.
        """
        *stack, _, outputs = shape = self.kernel.get_value().shape
        self.kernel = nnx.Param(jax.ShapeDtypeStruct(shape, jnp.int8))
        self.scale = nnx.Param(jax.ShapeDtypeStruct((*stack, outputs), jnp.float32))
        self.products = products

    def _with_adapter(self, adapter: Adapter) -> Float[Array, "I O"]:
        kernel = self.kernel.get_value().astype(adapter.dtype)
        return kernel if self.joined else low_rank.joined(kernel, *adapter.factors, adapter.scale)

    def _adapted(self, x: Float[Array, "*L I"], adapter: Adapter) -> Float[Array, "*L O"]:
        out = low_rank.product(x.astype(adapter.dtype), self._with_adapter(adapter), *adapter.factors, adapter.scale)
        return out if self.bias is None else out + self.bias.get_value().astype(adapter.dtype)

    def _of_int8(self, x: Float[Array, "*L I"]) -> Float[Array, "*L O"]:
        dtype = self.dtype or x.dtype
        x, kernel, scale = x.astype(dtype), self.kernel.get_value(), self.scale.get_value()
        rounded = self.products == "int8"
        out = int8_matmul(x, kernel, scale) if rounded else x @ multiplied(kernel, scale, dtype)
        return out if self.bias is None else out + self.bias.get_value().astype(dtype)


def joined(module: Model) -> Model:
    """Within jit: the module with all adapters joined to their kernels, before the kernels' parts are gathered from
    other devices, so that each adds to its own."""
    if not any(isinstance(node, Linear) and node.adapter is not None for _, node in nnx.iter_graph(module)):
        return module
    copy = nnx.merge(*nnx.split(module))
    for _, node in nnx.iter_graph(copy):
        if isinstance(node, Linear):
            node.join()
    return copy
