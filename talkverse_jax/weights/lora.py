"""LoRA pairs under their PyTorch names: `X.lora_A.weight` [r, in] and `X.lora_B.weight` [out, r] add
`alpha/r * B @ A` to `X.weight` [out, in]."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.tree import Flat
from talkverse_jax.weights import blocks, match
from talkverse_jax.weights.lazy import Tensor
from talkverse_jax.weights.rule import LINEAR, Rule, find_rule
from talkverse_jax.weights.safetensors_io import read_file

A, B = ".lora_A.weight", ".lora_B.weight"

# In the header of a file with all pairs of the model: those that lie beside the weights are not added to it.
ALL_PAIRS = {"lora_pairs": "all"}


@dataclasses.dataclass(frozen=True)
class Pair:
    """The two factors of one layer's difference."""

    a: Float[np.ndarray, "r in"]
    b: Float[np.ndarray, "out r"]

    def blocks(self, kernel: Float[Tensor, "in out"], scale: float, dtype=None) -> blocks.RowBlocks:
        """The layer's kernel in our layout with the pair added, by blocks of rows."""
        return blocks.add_product(kernel, self.a.T, self.b.T, scale, dtype)

    def add_to(self, kernel: Float[Array, "in out"], scale: float, dtype) -> Float[Array, "in out"]:
        """The same for an array on devices, which keeps its sharding; each process computes its part."""

        def part(index: tuple[slice, ...]) -> Float[np.ndarray, "rows columns"]:
            rows, columns = index
            product = self.a.T[rows].astype(np.float32) @ self.b.T[:, columns].astype(np.float32)
            return product * np.float32(scale)

        product = jax.make_array_from_callback(kernel.shape, kernel.sharding, part)  # pyright: ignore[reportArgumentType]  # never None
        return _add(kernel, product, jnp.dtype(dtype))


@jax.jit(static_argnums=2)
def _add(kernel, product, dtype):
    return (kernel.astype(jnp.float32) + product).astype(dtype)


def plain_name(name: str) -> str:
    """The name without the `model.` that training programs put in front."""
    return name.removeprefix("model.")


def split(tensors: Mapping[str, np.ndarray], where: str) -> tuple[dict[str, np.ndarray], dict[str, Pair]]:
    """The whole tensors of a trained file by name, and its pairs by layer (`X`).

    Raises:
      UserError: a pair lacks its partner, or a name occurs with and without `model.`.
    """
    plain = {plain_name(name): value for name, value in tensors.items()}
    if len(plain) != len(tensors):
        raise UserError(f"{where}: has a name both with and without `model.`; get the file again")
    firsts = {name.removesuffix(A): plain.pop(name) for name in list(plain) if name.endswith(A)}
    seconds = {name.removesuffix(B): plain.pop(name) for name in list(plain) if name.endswith(B)}
    alone = sorted(firsts.keys() ^ seconds.keys())
    if alone:
        has, lacks = ("lora_A", "lora_B") if alone[0] in firsts else ("lora_B", "lora_A")
        raise UserError(f"{where}: {alone[0]} has {has} but no {lacks} ({len(alone)} such); get the file again")
    return plain, {layer: Pair(firsts[layer], seconds[layer]) for layer in firsts}


def join(pairs: Mapping[str, Pair]) -> dict[str, np.ndarray]:
    """The factors by PyTorch name; `split` gives the pairs back."""
    return {
        name: factor for layer, pair in pairs.items() for name, factor in ((layer + A, pair.a), (layer + B, pair.b))
    }


def check(pairs: Mapping[str, Pair], shapes: Mapping[str, tuple[int, ...]], rank: int, where: str) -> None:
    """Make sure that every pair belongs to a layer.

    Args:
      shapes: the model's tensors by PyTorch name.
      rank: that the pairs must have.

    Raises:
      UserError: a pair is of another rank, or of a layer the model lacks or has in another size.
    """
    for layer, pair in pairs.items():
        r = pair.a.shape[0]
        if r != rank or pair.b.shape[1:] != (rank,):
            raise UserError(f"{rank}: {where} has pairs of rank {r} ({layer}); pass --lora_rank {r}", field="lora_rank")
        need = shapes.get(f"{layer}.weight")
        if need is None:
            raise UserError(f"{where}: has a LoRA pair for {layer}, a layer the model lacks; give the right file")
        if need != (len(pair.b), pair.a.shape[1]):
            raise UserError(
                f"{where}: the LoRA pair of {layer} is for {[len(pair.b), pair.a.shape[1]]}, the model's is "
                f"{list(need)}; give the file of this size, or its --config"
            )


@dataclasses.dataclass(frozen=True)
class TrainedFile:
    """A safetensors file under the PyTorch names: whole tensors, and pairs of one rank and alpha."""

    path: str | Path
    rank: int
    alpha: float

    @property
    def has_all_pairs(self) -> bool:
        """Whether its pairs stand in place of those beside the weights, instead of being added to them."""
        metadata = json.loads(read_file(self.path).header).get("__metadata__", {})
        return metadata.items() >= ALL_PAIRS.items()


def open_trained(
    file: TrainedFile, parameters: Flat, rules: tuple[Rule, ...]
) -> tuple[dict[str, np.ndarray], dict[str, Pair]]:
    """The whole tensors of a trained file by PyTorch name and its pairs by layer; mapped, not read.

    Args:
      parameters: the model's, or their shapes, by our path.
      rules: the model's weight table.

    Raises:
      UserError: the file is not readable, has a name or shape the model lacks, or pairs of another rank.
    """
    path = str(file.path)
    plain, pairs = split(read_file(path).tensors, path)
    check(pairs, match.torch_shapes(parameters, rules), file.rank, path)
    homes = _homes(parameters, rules)
    for name, value in plain.items():
        if name not in homes:
            raise UserError(f"{path}: holds {name}, which the model lacks; give a file trained from these weights")
        ours, rule = homes[name]
        need = match.torch_shape(rule, parameters[ours].shape)
        if value.shape != need:
            raise UserError(f"{path}: {name} is {list(value.shape)}, not {list(need)}; give a file of this size")
    for layer in pairs:
        require_linear(homes[f"{layer}.weight"][1], layer, path)
    return plain, pairs


def _homes(parameters: Flat, rules: tuple[Rule, ...]) -> dict[str, tuple[str, Rule]]:
    """Our path and its rule, by PyTorch name."""
    return {name: (ours, rule) for ours in parameters for rule, names in [find_rule(rules, ours)] for name in names}


def lay_over(parameters: Flat, file: TrainedFile, rules: tuple[Rule, ...]) -> None:
    """Lay a trained file over loaded parameters: its tensors replace theirs, its pairs are added to them.

    Args:
      parameters: arrays by our path, replaced in this dict one by one, so that few are held twice; dtype and
        sharding of each are kept.
      rules: the model's weight table.

    Raises:
      UserError: see `open_trained`.
    """
    plain, pairs = open_trained(file, parameters, rules)
    homes = _homes(parameters, rules)
    for name, value in plain.items():
        ours, rule = homes[name]
        old, new = parameters[ours], rule.layout.from_torch(value)
        # `device_put` would have all processes compare the whole array first.
        parameters[ours] = jax.make_array_from_callback(
            old.shape, old.sharding, lambda index, new=new, dtype=old.dtype: new[index].astype(dtype)
        )
    for layer, pair in pairs.items():
        ours, _ = homes[f"{layer}.weight"]
        kernel = parameters[ours]
        parameters[ours] = pair.add_to(kernel, file.alpha / file.rank, kernel.dtype)


def require_linear(rule: Rule, layer: str, where: str) -> None:
    """Raises UserError unless the layer is linear; nothing else is known to have pairs."""
    if rule.layout != LINEAR:
        raise UserError(f"{where}: has a LoRA pair for {layer}, which is no linear layer; give the right file")
