"""What files hold of a component: its own tensors among those of others, as numbers, under the published names.

People hold a model in many ways: alone or with others in one file, under the names of ComfyUI, diffusers,
transformers or llama.cpp, as they were trained or quantised. Behind this door they are all one.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from talkverse_jax.core import tree
from talkverse_jax.core.errors import UserError
from talkverse_jax.weights import quantised
from talkverse_jax.weights.component import Component
from talkverse_jax.weights.lazy import Tensor
from talkverse_jax.weights.manifest import PUBLISHED
from talkverse_jax.weights.mapped import MappedTensors
from talkverse_jax.weights.match import published_names

_ROWS = 4096  # compared at once
# How names begin in a file of several models.
_PARTS = ("model.diffusion_model.", "diffusion_model.", "vae.", "first_stage_model.", "text_encoders.")
_PARTS += ("cond_stage_model.", "clip_vision.")


@dataclasses.dataclass(frozen=True)
class Understood:
    """A component's tensors.

    Attributes:
      tensors: by their published names.
      kind: what the files are, for the manifest.
      as_published: whether they hold these very numbers under these very names, and nothing else.
      notes: what was assumed or changed, for people.
      paths: files that were read besides.
    """

    tensors: Mapping[str, Tensor]
    kind: str = PUBLISHED
    as_published: bool = True
    notes: tuple[str, ...] = ()
    paths: tuple[Path, ...] = ()


def understand(
    mapped: MappedTensors, component: Component, config: Any, map_path: str | Path | None = None
) -> Understood:
    """A component's tensors among those of some files.

    Args:
      map_path: quanto's map, where it is given; by default it lies beside the file.

    Raises:
      UserError: they are quantised in a way that is not read, or one stands there twice.
    """
    path, *more = mapped.paths
    where = path.parent if more else path
    own, prefix, others = _own(mapped.tensors, component.prefixes, path)
    metadata = {key: value for file in mapped.files for key, value in file.metadata.items()}
    plain = quantised.plain(own, metadata, path, prefix, map_path)
    tensors, renamed = _renamed(plain.tensors, component, config, path)
    notes = []
    if mapped.kind or plain.changed:
        notes.append(f"{where}: {mapped.kind or plain.kind}, turned to float32 and then rounded once")
    elif plain.kind:
        notes.append(f"{where}: {plain.kind}, read as numbers")
    if others:
        notes.append(f"{where}: {len(others)} tensors of other models passed over ({others[0]}, ...)")
    if renamed:
        theirs, ours = renamed[0]
        notes.append(f"{where}: {len(renamed)} tensors have another program's names ({theirs} for {ours}, ...)")
    kinds = (mapped.kind, plain.kind, f"under {prefix}" if prefix else "", "other names" if renamed else "")
    return Understood(
        tensors=tensors,
        kind=", ".join(filter(None, kinds)) or PUBLISHED,
        as_published=not (mapped.kind or plain.changed or prefix or renamed),
        notes=tuple(notes),
        paths=plain.paths,
    )


def _own(
    tensors: Mapping[str, Tensor], prefixes: tuple[str, ...], path: Path
) -> tuple[Mapping[str, Tensor], str, list[str]]:
    """The component's tensors, what all their names began with, and the names of other models' tensors."""
    prefix = next((prefix for prefix in prefixes if any(name.startswith(prefix) for name in tensors)), "")
    if not prefix:
        return tensors, "", []
    own, others = {}, []
    for name, value in tensors.items():
        if name.startswith(_PARTS) and not name.startswith(prefix):
            others.append(name)
            continue
        bare = name.removeprefix(prefix)  # one without it is unknown to the model, as the report will say
        if bare in own:
            raise UserError(f"{path}: holds {bare} with and without {prefix}; give another file")
        own[bare] = value
    return own, prefix, others


def _renamed(
    tensors: Mapping[str, Tensor], component: Component, config: Any, path: Path
) -> tuple[Mapping[str, Tensor], list[tuple[str, str]]]:
    """The tensors by their published names, and what was renamed: (their name, the published one)."""
    known = published_names(tree.abstract_parameters(component.abstract(config)), component.rules)
    found: dict[str, Tensor] = {}
    renamed = []
    for name, value in tensors.items():
        ours = known.get(name) or component.to_published(name)
        if ours not in found:
            found[ours] = value
        elif not _equal(value, found[ours]):  # some writers store a tied table under both its names
            raise UserError(f"{path}: holds {ours} twice, once as {name}, and not the same; give another file")
        if ours != name:
            renamed.append((name, ours))
    return found, renamed


def _equal(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or not one.ndim:
        return one.shape == other.shape and bool(np.asarray(one) == np.asarray(other))
    parts = (slice(start, start + _ROWS) for start in range(0, one.shape[0], _ROWS))
    return all(np.array_equal(one[part], other[part]) for part in parts)
