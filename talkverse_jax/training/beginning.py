"""What a run begins with besides the parameters of its weights: trained files, and the pairs that adapters go on from.

With the strategy `lora`, one file at strength 1 becomes the adapters, if all its pairs are of one rank and alpha and of
layers that have adapters; its other tensors are laid over the weights. All other files are added to the weights.
"""

import dataclasses
from collections.abc import Sequence

from talkverse_jax.core import tree
from talkverse_jax.core.errors import UserError
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.training import lora
from talkverse_jax.training.network import NetworkSettings, Start, abstract
from talkverse_jax.weights import lora as pairs
from talkverse_jax.weights import store
from talkverse_jax.weights.asked import TrainedFile
from talkverse_jax.weights.component import Component
from talkverse_jax.weights.lora import Pair
from talkverse_jax.weights.trained import TrainedTensors


def begin(
    weights_dir: str,
    component: Component,
    settings: NetworkSettings,
    files: Sequence[TrainedFile] = (),
    rank: int | None = None,
    alpha: float | None = None,
) -> Start:
    """Find out how a run begins; of files only headers are read.

    Args:
      rank, alpha: of the adapters, where the person said it; otherwise as those have it that they go on from, or as
        the settings have it.

    Raises:
      UserError: the files cannot be laid over the weights; or the adapters would go on from pairs of another rank or
        alpha than the person said, or of several.
    """
    if settings.beginning != "weights":
        if files:
            raise UserError(f"{settings.beginning}: is no place for --lora_ckpt; leave one out", field="init")
        return Start(rank or settings.rank, alpha or settings.alpha, {}, {})
    opened = store.check_trained(weights_dir, component, files) if files else ()
    stored = store.stored_pairs(weights_dir, component)
    if any(file.has_all_pairs for file in opened):
        stored = {}
    notices = tuple(file.notice for file in opened)
    if not settings.strategy.lora:
        return Start(settings.rank, settings.alpha, {}, stored, opened, notices)
    adapters, over, where = stored, opened, weights_dir
    if opened and not stored and (first := _of_file(opened, component, weights_dir, settings)):
        adapters, over, where = first, (dataclasses.replace(opened[0], pairs={}),), str(opened[0].file.path)
        notices += (f"{where}: the adapters go on from its pairs",)
    elif opened:
        notices += ("the trained files are added to the weights; the adapters are beside them",)
    if not adapters:
        return Start(rank or settings.rank, alpha or settings.alpha, {}, stored, over, notices)
    if (own := pairs.common(adapters.values())) is None:
        raise UserError(
            f"{where}: its LoRA pairs have several ranks or alphas, which adapters cannot go on from; "
            "convert with --lora_merge true"
        )
    if (rank or own[0], alpha or own[1]) != own:
        raise UserError(
            f"{where}: its LoRA pairs have rank {own[0]} and alpha {own[1]:g}; "
            f"pass --lora_rank {own[0]} --lora_alpha {own[1]:g}, or leave both out"
        )
    return Start(*own, adapters, stored, over, notices)


def _of_file(
    opened: tuple[TrainedTensors, ...], component: Component, weights_dir: str, settings: NetworkSettings
) -> dict[str, Pair]:
    """The pairs of the one file that can become the adapters, by our path of their kernel; none where it cannot."""
    [file, *others] = opened
    if others or file.file.strength != 1 or pairs.common(file.pairs.values()) is None:
        return {}
    module = abstract(component, store.load_config(weights_dir, component), settings, Layout())
    shapes = tree.abstract_parameters(module)
    adapted = lora.pairs(shapes)
    homes = component.homes({path: leaf for path, leaf in shapes.items() if path in adapted})
    if any(f"{layer}.weight" not in homes for layer in file.pairs):
        return {}
    return {homes[f"{layer}.weight"].path: pair for layer, pair in file.pairs.items()}
