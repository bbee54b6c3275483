"""What a person asks for of a device mesh. Imports no JAX.

A person names four axes: `data`, `fsdp`, `context` (the sequence) and `tensor`. The mesh has five: `context` is
laid out as `ring` x `ulysses`, the two ways to share a sequence. Heads limit the second (24 heads allow 2, 3, 4,
6, 8, 12, 24), nothing limits the first.
"""

import dataclasses
import difflib
import math
import re

from talkverse_jax.core import presets
from talkverse_jax.core.config import load_toml
from talkverse_jax.core.errors import UserError

AXES = ("data", "fsdp", "ring", "ulysses", "tensor")
_SIZE = re.compile("-?[0-9]{1,9}")
_ASKED = ("data", "fsdp", "context", "tensor")


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Sizes of the axes, in one slice (ICI) and across slices (DCN).

    Attributes:
      data, fsdp, context, tensor: devices along each axis within a slice; one may be -1, the rest.
      ulysses: the part of `context` that shares heads; the others pass keys around a ring. None: as large as
        the heads allow.
      dcn_data, dcn_fsdp, dcn_context: slices along each axis. Across slices a sequence is shared by a ring.
    """

    data: int = 1
    fsdp: int = 1
    context: int = 1
    tensor: int = 1
    ulysses: int | None = None
    dcn_data: int = 1
    dcn_fsdp: int = 1
    dcn_context: int = 1

    def __post_init__(self):
        for name in _ASKED:
            if getattr(self, name) < 1 and getattr(self, name) != -1:
                raise UserError(f"mesh: {name}={getattr(self, name)}; give 1 or more, or -1 for the rest")
        if self.ulysses and self.ulysses > 1 and self.context == 1:
            raise UserError(f"mesh: ulysses={self.ulysses} is a part of context; give context too, such as -1")
        if sum(getattr(self, name) == -1 for name in _ASKED) > 1:
            raise UserError("mesh: more than one axis is -1; only one can be the rest")
        for name in ("dcn_data", "dcn_fsdp", "dcn_context", "ulysses"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"mesh: {name}={value}; give 1 or more")

    @classmethod
    def parse(cls, text: str) -> "MeshConfig":
        """Read `data=2,context=-1`.

        Raises:
          UserError: an axis is unknown or its size is no number.
        """
        names, values = [field.name for field in dataclasses.fields(cls)], {}
        for part in filter(None, text.replace(" ", "").split(",")):
            name, _, size = part.partition("=")
            if name not in names or not _SIZE.fullmatch(size):
                near = difflib.get_close_matches(text, presets.names("mesh"), n=1)
                hint = f"did you mean the preset {near[0]}?" if near else f"the axes are {', '.join(names)}"
                raise UserError(
                    f"{part!r} is no axis=size; give such as data=2,context=-1, or a preset of configs/mesh; {hint}",
                    field="mesh",
                )
            if name in values:
                raise UserError(f"mesh: {name} is given twice; give it once")
            values[name] = int(size)
        return cls(**values)

    @classmethod
    def read(cls, text: str) -> "MeshConfig":
        """Read a TOML file, the name of one in configs/mesh, or `data=2,context=-1` itself."""
        named = text.endswith(".toml") or text in presets.names("mesh")
        return load_toml(cls, presets.find(text, "mesh")) if named else cls.parse(text)

    @property
    def slices(self) -> int:
        return self.dcn_data * self.dcn_fsdp * self.dcn_context

    def sizes(self, devices: int, heads: int) -> "MeshSizes":
        """All sizes for this many devices and a model of `heads` attention heads.

        Raises:
          UserError: the axes do not multiply to the devices, or heads do not divide; the message says what
            would.
        """
        asked = {name: getattr(self, name) for name in _ASKED}
        known = math.prod(size for size in asked.values() if size != -1) * self.slices
        shown = ", ".join(f"{name}={size}" for name, size in asked.items() if size != 1) or "data=1"
        if self.slices > 1:
            shown += f" on {self.slices} slices"
        if -1 in asked.values():
            if devices % known:
                raise UserError(
                    f"mesh: {shown}: {known} does not divide {devices} devices; sizes whose product is one of "
                    f"{_divisors(devices)} do"
                )
            asked = {name: devices // known if size == -1 else size for name, size in asked.items()}
        elif known != devices:
            raise UserError(
                f"mesh: {shown} takes {known} device{'s' * (known > 1)}, there are {devices}; sizes whose product "
                f"is {devices} do, or set one axis to -1 (the rest)"
            )
        tensor, context = asked["tensor"], asked["context"]
        if heads % tensor:
            raise UserError(f"mesh: tensor={tensor} does not divide {heads} heads; {_divisors(heads)} do")
        local = heads // tensor
        ulysses = self.ulysses or math.gcd(local, context)
        if local % ulysses or context % ulysses:
            raise UserError(
                f"mesh: ulysses={ulysses} must divide context={context} and the {local} heads of a device; "
                f"{_divisors(math.gcd(local, context))} do"
            )
        return MeshSizes(
            data=asked["data"] * self.dcn_data,
            fsdp=asked["fsdp"] * self.dcn_fsdp,
            ring=context // ulysses * self.dcn_context,
            ulysses=ulysses,
            tensor=tensor,
        )


@dataclasses.dataclass(frozen=True)
class MeshSizes:
    """Devices along each axis of the mesh, all slices together."""

    data: int
    fsdp: int
    ring: int
    ulysses: int
    tensor: int

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(getattr(self, name) for name in AXES)


def _divisors(number: int) -> str:
    return ", ".join(str(n) for n in range(1, number + 1) if number % n == 0)
