"""What training adds to a parameter: the product of a LoRA pair, or a difference that is stored whole.

Under their PyTorch names `X.lora_A.weight` [r, in] and `X.lora_B.weight` [out, r] add `alpha/r * B @ A` to `X.weight`
[out, in].
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from talkverse_jax.weights.rule import TensorLayout

A, B, ALPHA = ".lora_A.weight", ".lora_B.weight", ".alpha"

# In the header of a file with all pairs of the model: those that lie beside the weights are not added to it.
ALL_PAIRS = {"lora_pairs": "all"}


class Addend(Protocol):
    """What is added to a parameter, in our layout and float32."""

    def rows(self, part: slice) -> np.ndarray:
        """A block of its rows."""
        ...

    def part(self, index: tuple[slice, ...]) -> np.ndarray:
        """Any part of it, as a device holds one."""
        ...


@dataclasses.dataclass(frozen=True)
class Pair:
    """The two factors of a linear layer's difference, which is `scale * b @ a` in PyTorch's layout.

    Attributes:
      scale: alpha/r, and the strength that was asked for.
    """

    a: Float[np.ndarray, "r in"]
    b: Float[np.ndarray, "out r"]
    scale: float = 1.0

    @property
    def rank(self) -> int:
        return len(self.a)

    @property
    def alpha(self) -> float:
        """By which the pair is stored."""
        return round(self.scale * self.rank, 6)

    def rows(self, part: slice) -> Float[np.ndarray, "part out"]:
        scaled = self.a.T[part].astype(np.float32) * np.float32(self.scale)
        # computed by columns, as a transposed PyTorch kernel lies in memory
        return (self.b.astype(np.float32) @ scaled.T).T

    def part(self, index: tuple[slice, ...]) -> Float[np.ndarray, "rows columns"]:
        rows, columns = index
        product = self.a.T[rows].astype(np.float32) @ self.b.T[:, columns].astype(np.float32)
        return product * np.float32(self.scale)


@dataclasses.dataclass(frozen=True)
class Whole:
    """A difference by its values."""

    value: Float[np.ndarray, "..."]
    scale: float = 1.0

    def laid_out(self, layout: TensorLayout) -> "Whole":
        """The same in our layout."""
        return dataclasses.replace(self, value=layout.from_torch(self.value))

    def rows(self, part: slice) -> Float[np.ndarray, "..."]:
        return self.part((part,) if self.value.ndim else ())

    def part(self, index: tuple[slice, ...]) -> Float[np.ndarray, "..."]:
        return self.value[index].astype(np.float32) * np.float32(self.scale)


def add(array: jax.Array, addends: Sequence[Addend], dtype) -> jax.Array:
    """An array on devices with the addends, summed in float32 and rounded once; it keeps its sharding, and each process
    computes its part."""

    def part(index: tuple[slice, ...]) -> np.ndarray:
        first, *others = (addend.part(index) for addend in addends)
        return sum(others, first)

    place, device = array.sharding, array.sharding.with_memory_kind("device")  # sums are made there
    total = jax.make_array_from_callback(array.shape, device, part)  # pyright: ignore[reportArgumentType]  # never None
    return jax.device_put(_add(jax.device_put(array, device), total, jnp.dtype(dtype)), place)


@jax.jit(static_argnums=2)
def _add(array, total, dtype):
    return (array.astype(jnp.float32) + total).astype(dtype)


def common(pairs: Iterable[Pair]) -> tuple[int, float] | None:
    """The rank and the alpha of pairs, where all have the same."""
    found = {(pair.rank, pair.alpha) for pair in pairs}
    return found.pop() if len(found) == 1 else None


def join(pairs: Mapping[str, Pair]) -> dict[str, np.ndarray]:
    """The factors by PyTorch name, and each layer's alpha unless all have the same; `split` gives the pairs back."""
    alphas = {layer + ALPHA: np.array(pair.alpha, np.float32) for layer, pair in pairs.items()}
    return factors(pairs) | ({} if common(pairs.values()) else alphas)


def factors(pairs: Mapping[str, Pair]) -> dict[str, np.ndarray]:
    """The factors by PyTorch name."""
    return {
        name: factor for layer, pair in pairs.items() for name, factor in ((layer + A, pair.a), (layer + B, pair.b))
    }


def stack(pairs: Sequence[Pair]) -> Pair:
    """One pair that is the sum of several."""
    if len(pairs) == 1:
        return pairs[0]
    ups = [pair.b.astype(np.float32) * np.float32(pair.scale) for pair in pairs]
    return Pair(np.concatenate([pair.a.astype(np.float32) for pair in pairs]), np.concatenate(ups, axis=1))


def split(tensors: Mapping[str, np.ndarray], alpha: float | None) -> dict[str, Pair]:
    """The pairs, by layer, of what `join` made.

    Args:
      alpha: of all those that have no alpha of their own; None: their rank.
    """
    pairs = {}
    for name, a in tensors.items():
        if name.endswith(A):
            layer = name.removesuffix(A)
            own = tensors.get(layer + ALPHA, len(a) if alpha is None else alpha)
            pairs[layer] = Pair(a, tensors[layer + B], float(own) / len(a))
    return pairs
