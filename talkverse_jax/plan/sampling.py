"""A run of sampling, as a plan asks for it."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from talkverse_jax.core import presets
from talkverse_jax.core.options import blanks, build, check_known, describe
from talkverse_jax.ops.names import Products
from talkverse_jax.pipeline.family import Family
from talkverse_jax.pipeline.machine import Machine
from talkverse_jax.pipeline.placement import default_mesh
from talkverse_jax.pipeline.programs import ClipWork, ComponentBytes, Program, Work, component_bytes
from talkverse_jax.plan.options import groups_of_sampling
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.topologies import Topology


@dataclasses.dataclass(frozen=True)
class SamplingRun:
    """Clips of one size.

    Attributes:
      configs: sizes of the models.
      settings: the family's own.
      size: (H, W) in pixels.
      int8: as of `pipeline.programs.placed_models`.
    """

    family: Family
    configs: Any
    settings: Any
    machine: Machine
    size: tuple[int, int]
    int8: Products | None = None

    @functools.cached_property
    def clip(self) -> ClipWork:
        """What a clip takes."""
        return self.family.sampling_work(self.configs, self.settings, self.machine, self.size)

    @property
    def work(self) -> tuple[Work, ...]:
        """Of all programs."""
        return self.clip.programs

    @property
    def heads(self) -> int:
        """Of the transformer."""
        return self.family.heads(self.configs)

    @property
    def dtype(self) -> str:
        """Of the transformer's products."""
        return self.machine.dtype

    @property
    def matmul_precision(self) -> str:
        """Of float32 products."""
        return self.machine.matmul_precision

    @property
    def unit(self) -> str:
        """What its time is told for."""
        return f"a clip of {self.clip.seconds:.1f} s"

    @property
    def rows(self) -> int:
        """Of a video, that a mesh can split: branches of the steps that run the fewest."""
        return self.clip.fewest or self.clip.branches

    def default_mesh(self, topology: Topology) -> MeshConfig:
        """What sampling chooses there."""
        rows, hbm = self.rows, topology.generation.hbm
        return default_mesh(topology.devices, hbm, rows, lambda: self.denoiser_bytes)

    def component_bytes(self, name: str, layout: Layout | None) -> ComponentBytes:
        """Where a component's parameters lie; all on one device without a layout."""
        component, int8 = self.family.components[name], self.int8 is not None
        return component_bytes(component, getattr(self.configs, name), self.clip.dtypes[name], layout, int8)

    @functools.cached_property
    def denoiser_bytes(self) -> int:
        """Of the transformer, in the memory of one device."""
        name = next(work.component for work in self.work if work.name.startswith("step"))
        return self.component_bytes(name, Layout(resident=self.machine.resident_blocks)).device

    def programs(self, mesh: Mesh) -> list[Program]:
        """To be compiled for the devices of a mesh."""
        return self.family.programs(self.configs, self.settings, self.machine, self.size, mesh, self.int8)

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self.clip, name) for name in ("height", "width", "frames", "steps", "branches")}

    def __str__(self) -> str:
        return str(self.clip)


def sampling_options(family: str, path: str | Path) -> tuple[Any, Machine]:
    """The settings and the machine of a config of sampling; what it lacks of a person's own files is not needed.

    Raises:
      UserError: the file is none, or an option cannot be used.
    """
    groups = groups_of_sampling(family)
    values = presets.read(path)
    values.pop("family", None)
    check_known(groups, values, str(path))
    wanted = {name: groups[name] for name in ("settings", "machine")}
    given = {each.name: values[each.name] for each in describe(wanted) if each.name in values}
    made = build(wanted, blanks(wanted) | given, str(path))
    return made["settings"], made["machine"]
