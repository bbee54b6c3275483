"""What the program knows of a family: one record, found through `registry`.

To add a family, write a package with `settings.py` and `family.py` and a line in the registry (CONTRIBUTING.md).
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from talkverse_jax.core.config import from_dict, read_toml
from talkverse_jax.core.errors import UserError
from talkverse_jax.ops.names import Products
from talkverse_jax.pipeline import weights_settings
from talkverse_jax.pipeline.cases import RunCase
from talkverse_jax.pipeline.clip import Timeline
from talkverse_jax.pipeline.job import Job
from talkverse_jax.pipeline.machine import Machine
from talkverse_jax.pipeline.pipeline import Inputs, Pipeline
from talkverse_jax.pipeline.programs import Calls, ClipWork, Program
from talkverse_jax.pipeline.training import FamilyTraining
from talkverse_jax.weights import store
from talkverse_jax.weights.asked import NOTHING, Asked
from talkverse_jax.weights.component import Component
from talkverse_jax.weights.published import Origin, Published


@dataclasses.dataclass(frozen=True)
class Family:
    """A family of models that make talking videos.

    Attributes:
      name: in the registry and in a manifest.
      title: for people.
      components: its models by name, in the order of conversion.
      configs_type: a frozen dataclass of their sizes, a field for each component, None of an optional one that is not
        there; refuses those that do not fit together.
      sources: where each component is published.
      load_pipeline: (weights, machine, *, settings=None, pack=1, keep_encoders=False, mesh=) -> Pipeline, where
        `settings` are those that jobs will have, as far as devices are shared by them.
      read: a job's files, read and checked; no model is needed.
      timeline: (job, inputs) -> its clips and what they show, as the pipeline makes them: arithmetic with the lengths
        of what was read and the sizes of the weights; raises UserError where nothing would be shown.
      heads: (configs) -> attention heads of the transformer, which a mesh has to divide.
      sizes: (settings) -> the sizes (H, W) that a video can have; that which documentation speaks of comes first.
      sampling_work: (configs, settings, machine, size) -> what a clip costs (see `pipeline.programs`).
      programs: (configs, settings, machine, size, mesh, int8) -> the same, to be compiled; `int8` as of
        `placed_models`.
      calls: (configs, settings, machine, size, mesh, int8, pack) -> what a run calls (see `Calls`), where `pack` videos
        are denoised together; None: programs of this family are compiled when a run comes to them.
      training: how it is trained.
      parity_cases: how each component of a reference bundle is run (see `pipeline.cases`).
      configs_for: (configs, sources) -> the sizes of what is converted from these files, where which files they are
        decides something of a model's config.
    """

    name: str
    title: str
    components: Mapping[str, Component]
    configs_type: type
    sources: Mapping[str, Origin]
    load_pipeline: Callable[..., Pipeline]
    read: Callable[[Job], Inputs]
    timeline: Callable[[Job, Any], Timeline]
    heads: Callable[[Any], int]
    sizes: Callable[[Any], tuple[tuple[int, int], ...]]
    sampling_work: Callable[[Any, Any, Machine, tuple[int, int]], ClipWork]
    programs: Callable[[Any, Any, Machine, tuple[int, int], Mesh, Products | None], list[Program]]
    training: FamilyTraining
    parity_cases: Mapping[str, RunCase]
    calls: Callable[[Any, Any, Machine, tuple[int, int], Mesh | None, Products | None, int], Calls] | None = None
    configs_for: Callable[[Any, Any], Any] = lambda configs, sources: configs

    @property
    def needed(self) -> tuple[str, ...]:
        """The components without which weights are not whole."""
        return tuple(name for name, component in self.components.items() if not component.optional)

    def given(self, sources: Any) -> tuple[str, ...]:
        """Those, and the optional ones whose files are named.

        Args:
          sources: the flags that name the files, the family's own `Sources`.
        """
        named = lambda name: getattr(sources, self.sources[name].repository.flag)  # noqa: E731
        return tuple(name for name in self.components if name in self.needed or named(name))

    def real_size(self) -> Any:
        """The published sizes."""
        return self.configs_type(**{name: component.real_size() for name, component in self.components.items()})

    def published(self, name: str, config: Any, sources: Any, asked: Asked = NOTHING) -> Published:
        """A component's published files, found and mapped.

        Args:
          config: its size.
          sources: the flags that name the files, the family's own `Sources`.
          asked: what the person says of trained files.

        Raises:
          UserError: a flag or file is missing, or a file is damaged or another one than it should be.
        """
        return self.sources[name].open(self.components[name], config, sources, asked)

    def configs_from_toml(self, path: str | Path) -> Any:
        """The sizes of a TOML file, which holds a table for each component."""
        values = read_toml(path)
        values.pop(weights_settings.TABLE, None)
        return from_dict(self.configs_type, values, str(path))

    def configs_from_weights(self, folder: str | Path) -> Any:
        """The sizes of converted weights; None of optional components that are not there.

        Raises:
          UserError: a component is missing or unfinished, or they do not fit together.
        """
        there = {*self.needed, *store.read_manifest(folder)}
        configs = {
            name: store.load_config(folder, component) if name in there else None
            for name, component in self.components.items()
        }
        try:
            return self.configs_type(**configs)
        except UserError as error:
            raise UserError(f"{folder}: {error}, by converting them from files that belong together") from None
