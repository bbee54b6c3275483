"""Trained files (LoRA and others) in one plain form, whatever program wrote them, and how they are laid over weights.

    trained = open_all(Asked((1.0, 0.8)).files(("style.safetensors", "motion.safetensors")), component, parameters)
    lay_over(parameters, trained, component.rules)

W' = W + strength * alpha/r * B @ A for a pair of rank r. Whole tensors replace those of the weights, whatever the
strength. docs/weights.md lists the dialects.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import jax
import numpy as np

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.tree import Flat
from talkverse_jax.weights import lora
from talkverse_jax.weights.asked import TrainedFile
from talkverse_jax.weights.component import Component
from talkverse_jax.weights.lora import Pair, Whole
from talkverse_jax.weights.rule import Rule, TensorLayout, find_rule
from talkverse_jax.weights.safetensors_io import SafetensorsFile, read_file
from talkverse_jax.weights.trained_alpha import read_alphas, scaled
from talkverse_jax.weights.trained_fit import check_fit
from talkverse_jax.weights.trained_names import Names, Spelled, spell


@dataclasses.dataclass(frozen=True)
class TrainedTensors:
    """A trained file under published names; mapped, not read.

    Attributes:
      file: as it was asked for.
      opened: as it lies there.
      whole: tensors that replace those of the weights.
      pairs: by layer; the strength is in their scale.
      added: differences in PyTorch's layout, by the name of the tensor that they are added to.
      has_all_pairs: whether its pairs stand in place of those beside the weights, instead of being added to them.
      notice: what was read, in a line.
      files: that were read.
    """

    file: TrainedFile
    opened: SafetensorsFile
    whole: dict[str, np.ndarray]
    pairs: dict[str, Pair]
    added: dict[str, tuple[Whole, ...]]
    has_all_pairs: bool
    notice: str
    files: tuple[Path, ...]

    @property
    def as_published(self) -> bool:
        """Whether its names are the published ones, so that it can be written again from what is here."""
        names = {plain_name(name) for name in self.opened.tensors}
        return names == self.whole.keys() | {layer + end for layer in self.pairs for end in (lora.A, lora.B)}

    def addends(self, name: str, layout: TensorLayout, with_pair: bool = True) -> list[lora.Addend]:
        """What is added to a tensor, in our layout."""
        layer, _, part = name.rpartition(".")
        pairs = [self.pairs[layer]] if with_pair and part == "weight" and layer in self.pairs else []
        return [*pairs, *(whole.laid_out(layout) for whole in self.added.get(name, ()))]


def plain_name(name: str) -> str:
    """The name without the `model.` that training programs put in front."""
    return name.removeprefix("model.")


def open_all(
    files: Iterable[TrainedFile], component: Component, parameters: Flat, whole: bool = True
) -> tuple[TrainedTensors, ...]:
    """Read the names of files in any dialect, and the few numbers that scale them.

    Args:
      parameters: the model's, or their shapes, by our path.
      whole: whether whole tensors must fit, too; otherwise those that the model lacks are there under their own names.

    Raises:
      UserError: one is not readable, of a kind that is not read, or for another model; or its rank or alpha is not what
        the person said; or the pairs of two stand in place of those of the weights.
    """
    trained = tuple(_open(file, component, parameters, whole) for file in files)
    full = [str(each.file.path) for each in trained if each.has_all_pairs]
    if len(full) > 1:
        raise UserError(f"{full[0]}, {full[1]}: each holds all pairs of the model; give one of them")
    return trained


def _open(file: TrainedFile, component: Component, parameters: Flat, whole: bool) -> TrainedTensors:
    return understand(read_file(file.path), file, component, parameters, whole)


def understand(
    opened: SafetensorsFile, file: TrainedFile, component: Component, parameters: Flat, whole: bool = True
) -> TrainedTensors:
    """The tensors of an opened file in one plain form; see `open_all`."""
    where, homes = str(file.path), component.homes(parameters)
    found = spell(opened.tensors, Names(homes, component.to_published), where)
    check_fit(found, component, homes, where, whole)
    alphas = read_alphas(file.path, opened.metadata, found.prefixes)
    scales = scaled(found, alphas, file)
    pairs = {
        layer: Pair(down, found.up[layer], scales.by_layer[layer] * file.strength) for layer, down in found.down.items()
    }
    added: dict[str, tuple[Whole, ...]] = {name: (Whole(value, file.strength),) for name, value in found.added.items()}
    for layer, value in found.up_bias.items():
        added[f"{layer}.bias"] = (*added.get(f"{layer}.bias", ()), Whole(value, pairs[layer].scale))
    return TrainedTensors(
        file=file,
        opened=opened,
        whole=found.whole | {plain_name(name): value for name, value in found.unknown.items()},
        pairs=pairs,
        added=added,
        has_all_pairs=opened.metadata.items() >= lora.ALL_PAIRS.items(),
        notice=_notice(file, found, pairs, scales.source),
        files=(opened.path, *alphas.beside),
    )


def _notice(file: TrainedFile, found: Spelled, pairs: dict[str, Pair], source: str) -> str:
    strength, parts = file.strength, []
    if pairs:
        ranks, scales = _range(pair.rank for pair in pairs.values()), _range(pair.scale for pair in pairs.values())
        parts += [f"{len(pairs)} LoRA pairs of rank {ranks}, which count {scales} times ({source})"]
    if found.added:
        parts += [f"{len(found.added)} differences added"]
    if found.whole:
        parts += [f"{len(found.whole)} tensors replaced" + (", whatever the strength" if strength != 1 else "")]
    if found.left_out:
        parts += [f"{len(found.left_out)} tensors for a text encoder left out, such as {found.left_out[0]}"]
    return f"{Path(file.path).name}: strength {strength:g}: {', '.join(parts)}"


def _range(numbers: Iterable[float]) -> str:
    every = sorted(set(numbers))
    return f"{every[0]:g}" if len(every) == 1 else f"{every[0]:g} to {every[-1]:g}"


def lay_over(parameters: Flat, trained: Sequence[TrainedTensors], rules: tuple[Rule, ...]) -> None:
    """Lay trained files over loaded parameters: tensors replace theirs, then pairs and differences are added.

    Args:
      parameters: arrays by our path, replaced in this dict one by one, so that few are held twice; dtype and
        sharding of each are kept.
      rules: the model's weight table.
    """
    for ours in list(parameters):
        rule, names = find_rule(rules, ours)
        old = parameters[ours]
        for value in [each.whole[name] for each in trained for name in names if name in each.whole][-1:]:
            new = rule.layout.from_torch(value)
            # `device_put` would have all processes compare the whole array first.
            parameters[ours] = jax.make_array_from_callback(
                old.shape, old.sharding, lambda index, new=new, dtype=old.dtype: new[index].astype(dtype)
            )
        if addends := [addend for each in trained for name in names for addend in each.addends(name, rule.layout)]:
            parameters[ours] = lora.add(parameters[ours], addends, old.dtype)
