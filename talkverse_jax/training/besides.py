"""What an exported file holds besides trained tensors, so that it is complete.

Where the weights that training began with keep LoRA pairs beside them (converted with --lora_merge false), that is all
that these have and the base model lacks: the file needs the base model alone, and says `lora_pairs: all` in its header.
Otherwise the pairs are in the kernels, and the file needs these weights. In both cases it holds what trained files laid
over the weights at the beginning (--lora_ckpt) have changed, so it needs none of them.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from talkverse_jax.training import lora as adapters
from talkverse_jax.training.fingerprints import fingerprint
from talkverse_jax.training.network import NetworkSettings, Start
from talkverse_jax.weights import blocks, lora, orbax_io, rule, store, trained_alpha
from talkverse_jax.weights.component import Component
from talkverse_jax.weights.lora import Pair
from talkverse_jax.weights.trained import TrainedTensors


@dataclasses.dataclass(frozen=True)
class Besides:
    """What is beside the trained tensors, by PyTorch name.

    Attributes:
      more: pairs that are joined to those of adapters, by layer.
      scale: of the adapters.
      metadata: of the file's header.
    """

    tensors: Mapping[str, np.ndarray]
    more: Mapping[str, Pair]
    scale: float
    metadata: dict[str, str]

    def with_more(self, name: str, value: np.ndarray) -> tuple[str, np.ndarray]:
        """A trained tensor; that of an adapter with the pair that is joined to it."""
        layer, factor = name.removesuffix(lora.A).removesuffix(lora.B), name[-len(lora.A) :]
        if layer == name or layer not in self.more:
            return name, value
        pair = self.more[layer]
        if factor == lora.A:
            return name, np.concatenate([value, pair.a])
        return name, np.concatenate([value, pair.b * np.float32(pair.scale / self.scale)], axis=1)


def besides(
    weights_dir: str, component: Component, trained: set[str], settings: NetworkSettings, start: Start
) -> Besides:
    """See above.

    Args:
      trained: paths of what is trained.
      settings, start: of the run.
    """
    apart, scale = store.pairs_apart(weights_dir, component), settings.alpha / settings.rank
    base = apart or settings.beginning == "adapter"
    needs = "the base model" if base else f"weights {fingerprint(weights_dir, component.name)}"
    adapted = [path.replace(adapters.A, "/kernel") for path in sorted(trained) if path.endswith(adapters.A)]
    more: dict[str, Pair] = {}
    pairs: dict[str, Pair] = {}
    tensors: dict[str, np.ndarray] = {}
    metadata = {"needs": needs}
    if settings.beginning == "weights":
        with store.reading(weights_dir, component.name) as folder:
            places = orbax_io.shapes(folder / store.PARAMETERS)
        still = [path for path in places if path not in trained]
        for path in (path for path in still if path.endswith("/kernel")):
            layer = layer_of(component.rules, path)
            found = [file.pairs[layer] for file in start.over if layer in file.pairs]
            if path not in adapted and path in start.stored:
                found.insert(0, start.stored[path])
            if found:
                (more if path in adapted else pairs)[layer] = lora.stack(found)
        own = store.base_tensors(weights_dir, component).keys() if apart else ()
        tensors = lora.factors(pairs) | _whole(weights_dir, component, still, own, start.over)
        metadata |= lora.ALL_PAIRS if apart else {}
    told = {layer: (pair.rank, pair.alpha) for layer, pair in pairs.items()}
    for layer in (layer_of(component.rules, path) for path in adapted):
        rank = settings.rank + (more[layer].rank if layer in more else 0)
        told[layer] = (rank, round(scale * rank, 6))
    if len(set(told.values())) == 1:
        [(rank, alpha)] = set(told.values())
        metadata |= {trained_alpha.RANK: str(rank), trained_alpha.ALPHA: f"{alpha:g}"}
    else:
        tensors |= {layer + lora.ALPHA: np.array(alpha, np.float32) for layer, (_, alpha) in told.items()}
    return Besides(tensors, more, scale, metadata)


def _whole(
    weights_dir: str, component: Component, still: Sequence[str], own: Collection[str], over: Sequence[TrainedTensors]
) -> dict[str, np.ndarray]:
    """Tensors that are not the base model's, by PyTorch name; without their pairs.

    Args:
      still: paths of what is not trained.
      own: paths of what the weights have in place of the base model's.
    """
    places = {}
    for path in still:
        of_path, (name, *_) = rule.find_rule(component.rules, path)
        if path in own or any(name in file.whole or name in file.added for file in over):
            places[path] = (name, of_path.layout)
    if not places:
        return {}
    with store.reading(weights_dir, component.name) as folder:
        shapes = orbax_io.shapes(folder / store.PARAMETERS)
        values = orbax_io.read(folder / store.PARAMETERS, {path: shapes[path] for path in places})
    found = {}
    for path, (name, layout) in places.items():
        value = np.asarray(values[path])
        for tensor in [file.whole[name] for file in over if name in file.whole][-1:]:
            value = layout.from_torch(tensor)
        if addends := [addend for file in over for addend in file.addends(name, layout, with_pair=False)]:
            value = blocks.add(value, addends, np.dtype(np.float32)).rows(slice(None))
        found[name] = layout.to_torch(value)
    return found


def layer_of(rules: tuple[rule.Rule, ...], path: str) -> str:
    """The PyTorch name of the layer that a kernel belongs to."""
    return rule.find_rule(rules, path)[1][0].removesuffix(".weight")
