"""Whether a trained file is for this model. Another architecture is told first of all, and by its width: so people know
their models."""

import collections
from collections.abc import Iterable, Mapping

from talkverse_jax.core.errors import UserError
from talkverse_jax.weights.component import Component, Home
from talkverse_jax.weights.rule import LINEAR
from talkverse_jax.weights.trained_names import Spelled


def check_fit(found: Spelled, component: Component, homes: Mapping[str, Home], where: str, whole: bool = True) -> None:
    """Make sure that the model has all that the file is about, in the same sizes.

    Args:
      homes: of the model's tensors.
      whole: look at whole tensors too.

    Raises:
      UserError: it has not, or the file is damaged.
    """
    foreign = _Foreign(where, _widths(found, component, homes))
    if lacking := [*found.strange, *(found.unknown if whole else ())]:
        first, *others = lacking
        more = f" (and {len(others)} more)" if others else ""
        raise foreign(f"{first}{more} has no place in {component.name}")
    if not (found.down or found.up or found.whole or found.added or found.unknown):
        raise UserError(f"{where}: has nothing for {component.name}; give another file")
    alone = sorted(found.down.keys() ^ found.up.keys())
    if alone:
        has, lacks = ("lora_A", "lora_B") if alone[0] in found.down else ("lora_B", "lora_A")
        raise UserError(f"{where}: {alone[0]} has {has} but no {lacks} ({len(alone)} such); get the file again")
    stray = sorted((found.alpha.keys() | found.up_bias.keys()) - found.down.keys())
    if stray:
        raise UserError(f"{where}: {stray[0]} has an alpha or a bias, but no pair; get the file again")
    for layer, down in found.down.items():
        up, home = found.up[layer], homes[f"{layer}.weight"]
        if (have := (len(up), *down.shape[1:])) != home.shape:
            raise foreign(f"the pair of {layer} is for {list(have)}, the model's is {list(home.shape)}")
        if home.rule.layout != LINEAR:
            raise UserError(f"{where}: has a LoRA pair for {layer}, which is no linear layer; give the right file")
        if up.shape[1:] != (len(down),):
            raise UserError(f"{where}: the factors of {layer} are of ranks {len(down)} and {up.shape[1]}; get it again")
    biases = {f"{layer}.bias": value for layer, value in found.up_bias.items()}
    for name, value in (*(found.whole.items() if whole else ()), *found.added.items(), *biases.items()):
        if value.shape != homes[name].shape:
            raise foreign(f"{name} is {list(value.shape)}, the model's is {list(homes[name].shape)}")


class _Foreign:
    """Makes the error of a file for another model."""

    def __init__(self, where: str, widths: str):
        self._where, self._widths = where, widths

    def __call__(self, what: str) -> UserError:
        return UserError(f"{self._where}: is for another model: {what}{self._widths}; give a file for this model")


def _widths(found: Spelled, component: Component, homes: Mapping[str, Home]) -> str:
    """How wide the layers of the file and of the model are, for messages."""
    strange = (value for name, value in found.strange.items() if "lora_A" in name or "lora_down" in name)
    its = _width(down.shape for down in (*found.down.values(), *strange))
    ours = _width(home.shape for home in homes.values() if home.rule.layout == LINEAR)
    if ours is None:
        return ""
    told = lambda width: f"{width} wide" + (f" ({known})" if (known := component.widths.get(width)) else "")  # noqa: E731
    return (
        f"; its layers are {told(its)}, not {told(ours)}" if its not in (None, ours) else f"; layers are {told(ours)}"
    )


def _width(shapes: Iterable[tuple[int, ...]]) -> int | None:
    """How many inputs most linear layers have."""
    counted = collections.Counter(shape[1] for shape in shapes if len(shape) == 2)
    return counted.most_common(1)[0][0] if counted else None
