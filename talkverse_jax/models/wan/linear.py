"""A linear layer that may carry a low-rank adapter (LoRA, Hu et al. 2021, arXiv:2106.09685).

The adapter is live: its own two products run beside the layer's, so that a step which trains it never makes the
gradient of the kernel, which costs as much as the layer itself.

Shapes: I inputs, O outputs, r rank.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


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
    """`nnx.Linear`, with an adapter once `attach` has given it one."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.adapter = nnx.data(None)

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]  # nobody passes a sharding
        self, x: Float[Array, "*L I"]
    ) -> Float[Array, "*L O"]:
        out = super().__call__(x)
        return out if self.adapter is None else out + self.adapter(x)

    def attach(self, rank: int, alpha: float, param_dtype) -> None:
        """Give the layer, or the stacked layers it stands for, an adapter: of shapes alone, to be filled like
        those of any other parameter."""
        *stack, inputs, outputs = self.kernel.get_value().shape
        shapes = ((*stack, *ends) for ends in ((inputs, rank), (rank, outputs)))
        a, b = (jax.ShapeDtypeStruct(shape, param_dtype) for shape in shapes)
        self.adapter = Adapter(a, b, alpha / rank, self.dtype or jnp.float32)
