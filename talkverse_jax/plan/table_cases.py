"""The rows that docs/tpu.md has, and which of them are asked for."""

import dataclasses
import functools

from talkverse_jax.core import presets
from talkverse_jax.core.errors import UserError
from talkverse_jax.pipeline import registry

_TOPOLOGIES = (
    "v5e-1", "v5e-4", "v5e-8", "v5e-16", "v5e-64", "v6e-1", "v6e-8", "v6e-16", "v6e-32", "v6e-64", "v5p-8", "v5p-64",
    "tpu7x-8", "H100-1", "H100-8", "H200-1",
)  # fmt: skip
SAMPLING = {"sample_480": "640x640", "sample_720": "1280x704"}

# Meshes beside the presets: what one would try first, and why it is not the preset.
_OTHERS = (
    ("v5e-4", "data=2,context=2"),
    ("v5e-8", "data=2,context=4"),
    ("v6e-8", "context=8"),
    ("v6e-8", "data=2,context=4,ulysses=1"),
    ("v6e-8", "data=2,fsdp=4"),
    ("v6e-8", "data=2,tensor=4"),
)

# What a clip takes besides its steps, by the preset that most will take.
BESIDE = "good"
_BESIDE = (
    ("v5e-1", "v5e-8", "v5p-8", "v6e-1", "v6e-8", "v6e-32", "tpu7x-8"),
    ("prepare", "decode", "encode"),
)

# Of the other families, by the ends of their presets' names: machines, and programs that are compiled for them.
_CLIPS = {
    "480": (("v6e-8", "v6e-16", "v5p-8", "tpu7x-8", "H100-1", "H100-8", "H200-1"), ("step", "decode")),
    "720": (("v6e-8", "v5p-8", "H100-1", "H200-1"), ("step",)),
}

# Updates of training at 640x640, 193 frames: topology, strategy, mesh, batch.
_UPDATES = (
    ("v5e-16", "lora", "fsdp=8,context=2", 8),
    ("v5p-8", "lora", "fsdp=4", 4),
    ("v6e-8", "lora", "fsdp=8", 8),
    ("v6e-64", "lora", "fsdp=64", 64),
    ("v5e-16", "full", "fsdp=8,context=2", 8),
    ("v5p-8", "full", "fsdp=4", 4),
    ("v6e-8", "full", "fsdp=8", 8),
    ("v6e-32", "full", "fsdp=32", 32),
    ("v6e-64", "full", "fsdp=64", 64),
)


@dataclasses.dataclass(frozen=True)
class Case:
    """What a row is about.

    Attributes:
      config: a preset of sampling or of training.
      mesh: as `--mesh` takes it; None: the one that sampling chooses.
      batch: samples of an update; None: of sampling.
      programs: those of sampling that are planned.
    """

    topology: str
    config: str
    mesh: str | None = None
    batch: int | None = None
    programs: tuple[str, ...] = ("step",)

    @property
    def key(self) -> str:
        """The row's name in the file."""
        batch = None if self.batch is None else f"batch={self.batch}"
        return " ".join(filter(None, (self.topology, self.config, self.mesh, batch)))


@functools.cache
def cases() -> tuple[Case, ...]:
    """All rows, in the order of the page."""
    found = [Case(topology, config) for config in SAMPLING for topology in _TOPOLOGIES]
    found += [Case(topology, "sample_480", mesh) for topology, mesh in _OTHERS]
    found += [Case(topology, BESIDE, programs=_BESIDE[1]) for topology in _BESIDE[0]]
    for name in registry.names():
        for end, (machines, programs) in _CLIPS.items():
            if presets.is_preset(config := f"{name}_{end}"):
                found += [Case(topology, config, programs=programs) for topology in machines]
    return (*found, *(Case(topology, f"train_{strategy}", mesh, batch) for topology, strategy, mesh, batch in _UPDATES))


def chosen(only: tuple[str, ...]) -> list[Case]:
    """The rows with one of these names: a row's, its first words, or its first letters; all without any.

    Raises:
      UserError: there is none with one of them.
    """
    wanted = set()
    for name in only:
        named = {case for case in cases() if case.key == name} or {c for c in cases() if c.key.startswith(f"{name} ")}
        named = named or {case for case in cases() if case.key.startswith(name)}
        if not named:
            known = ", ".join(dict.fromkeys(case.topology for case in cases()))
            raise UserError(f"{name}: no row begins so; they begin with {known}", field="only")
        wanted |= named
    return [case for case in cases() if case in wanted or not only]
