"""A linear layer that may carry a low-rank adapter (LoRA, Hu et al. 2021, arXiv:2106.09685), and whose kernel may be
int8 with a scale for each output.

The adapter is live: its own two products run beside the layer's, so that a step which trains it never makes the
gradient of the kernel, which costs as much as the layer itself.

Shapes: I inputs, O outputs, r rank.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from talkverse_jax.ops.int8 import int8_matmul
from talkverse_jax.ops.names import Products
from talkverse_jax.weights.int8 import multiplied


class Adapter(nnx.Module):
    """Adds `scale * x A B` to a layer's result. Those of stacked layers lie along a first axis.

    Args:
      a, b: [*S, I, r] and [*S, r, O], arrays or their shapes.
      scale: alpha / r.
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

    def __call__(self, x: Float[Array, "*L I"]) -> Float[Array, "*L O"]:
        a, b = (factor.get_value().astype(self.dtype) for factor in (self.a, self.b))
        return self.scale * (x.astype(self.dtype) @ a @ b)


class Linear(nnx.Linear):
    """`nnx.Linear`, with an adapter once `attach` has given it one, and of int8 once `quantise` has made it so."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.adapter = nnx.data(None)
        self.scale: Any = nnx.data(None)
        self.products: Products = "float"

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]  # nobody passes a sharding
        self, x: Float[Array, "*L I"]
    ) -> Float[Array, "*L O"]:
        out = super().__call__(x) if self.scale is None else self._of_int8(x)
        return out if self.adapter is None else out + self.adapter(x)

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
        self.kernel: nnx.Param[Any] = nnx.Param(jax.ShapeDtypeStruct(shape, jnp.int8))
        self.scale = nnx.Param(jax.ShapeDtypeStruct((*stack, outputs), jnp.float32))
        self.products = products

    def _of_int8(self, x: Float[Array, "*L I"]) -> Float[Array, "*L O"]:
        dtype = self.dtype or x.dtype
        x, kernel, scale = x.astype(dtype), self.kernel.get_value(), self.scale.get_value()
        rounded = self.products == "int8"
        out = int8_matmul(x, kernel, scale) if rounded else x @ multiplied(kernel, scale, dtype)
        return out if self.bias is None else out + self.bias.get_value().astype(dtype)
