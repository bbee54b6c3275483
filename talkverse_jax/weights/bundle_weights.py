"""The weights that a reference bundle's case is run with: those that it holds or makes, those of files that it names,
or another checkpoint's in their place; with its LoRA tensors merged."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from talkverse_jax.core import tree
from talkverse_jax.core.errors import UserError
from talkverse_jax.weights import blocks
from talkverse_jax.weights.asked import Asked, TrainedFile
from talkverse_jax.weights.bundle import Bundle
from talkverse_jax.weights.checkpoint import understand
from talkverse_jax.weights.component import Component
from talkverse_jax.weights.lazy import Tensor
from talkverse_jax.weights.mapped import read_one
from talkverse_jax.weights.published import Origin
from talkverse_jax.weights.safetensors_io import SafetensorsFile
from talkverse_jax.weights.trained import TrainedTensors
from talkverse_jax.weights.trained import understand as understand_trained

_DIALECT = "diffusion_model."  # of a program that knows one
Tensors = dict[str, np.ndarray]


def bundle_weights(
    bundle: Bundle, component: Component, config: Any, origin: Origin, sources_type: type, part: str | None = None
) -> tuple[Tensors, str]:
    """A component's tensors by PyTorch name, and what they are from, for messages.

    Args:
      origin: where the component is published, for a bundle that names files by the flags of `sources_type`.
      part: the name of its recipe, in a bundle that has several.

    Raises:
      UserError: a file that the bundle names is missing, or not the one it was made with; or another checkpoint is
        given for a bundle of several models.
    """
    if bundle.other_weights:
        path, map_path = bundle.other_weights
        if part is not None:
            raise UserError(f"{path}: {bundle.path.name} is of several models; give a bundle of one", field="weights")
        return _arrays(understand(read_one(path), component, config, map_path).tensors), path
    if named := bundle.meta.get("weights"):
        sources = sources_type(**{field.name: named.get(field.name) for field in dataclasses.fields(sources_type)})
        asked = Asked((), named.get("lora_rank"), named.get("lora_alpha"))
        published = origin.open(component, config, sources, asked)
        for file in published.tensor_files:
            if file.stat().st_size != named["bytes"].get(file.name):
                raise UserError(f"{file}: not the file {bundle.path.name} was made with; make the bundle again")
        return _merged(published.tensors, published.trained, component, config), str(bundle.path)
    tensors = bundle.weights(part)
    lora = bundle.group("lora") if origin.adapters else {}
    trained = (_trained(bundle, lora, component, config),) if lora else ()
    return _merged(tensors, trained, component, config), str(bundle.path)


def _trained(bundle: Bundle, lora: Tensors, component: Component, config: Any) -> TrainedTensors:
    """The LoRA tensors of a bundle. Those with a `scale` are a file's, as a program reads it that passes over alphas
    and other dialects."""
    told = bundle.meta.get("lora", {})
    if "scale" in told:
        file = TrainedFile(bundle.path, told["scale"], alpha="ignore")
        lora = {name: value for name, value in lora.items() if name.startswith(_DIALECT)}
    else:
        file = TrainedFile(bundle.path, alpha=told.get("alpha"))
    parameters = tree.abstract_parameters(component.abstract(config))
    opened = SafetensorsFile(bundle.path, "", {}, lora)
    return understand_trained(opened, file, component, parameters)


def _merged(
    tensors: Mapping[str, Tensor], trained: tuple[TrainedTensors, ...], component: Component, config: Any
) -> Tensors:
    found = _arrays(tensors)
    for each in trained:
        found |= each.whole
    for name, home in component.homes(tree.abstract_parameters(component.abstract(config))).items():
        layout = home.rule.layout
        if addends := [addend for each in trained for addend in each.addends(name, layout)]:
            total = blocks.add(layout.from_torch(found[name]), addends, np.dtype(np.float32))
            found[name] = layout.to_torch(np.asarray(total))
    return found


def _arrays(tensors: Mapping[str, Tensor]) -> Tensors:
    return {name: np.asarray(tensor) for name, tensor in tensors.items()}
