"""The text of a TPU kernel's final schedule as data: bundles of instructions, one a cycle.

XLA:TPU writes it where `kernels.Dump` asks for it. Kept is what decides which bundles run how often: the scalar unit's
instructions and the branches. What the vector and matrix units do meanwhile fills bundles and nothing more.
"""

import dataclasses
import re
from collections.abc import Iterator

_BUNDLE = re.compile(r"\s*(?:0x[0-9a-f]+|0)\s+(?:[A-Z]{2})?\s*:[ >]*\{")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_REGION = re.compile(r"Start(?:/End empty)? region (\d+)")
_WORTH = re.compile(r"%[sp]\d+_[sp]\d+ = |= sbr\.|= sst ")
_DEFINED = re.compile(r"%(\w+) = ([\w.]+)\s*(?:\[resolvable:\$\w+\] )?(.*)", re.DOTALL)
_TARGET = re.compile(r"target = \$region(\d+)")
_PREDICATE = re.compile(r"\((!?)%(\w+)(?:, ([^)]*))?\)\s*,?\s*")


@dataclasses.dataclass(frozen=True)
class Operation:
    """A scalar instruction.

    Attributes:
      result: the name it defines.
      operands: names (`%name`) and literals, as they stand there.
      predicate: the name it hangs on; None: it always runs.
      negated: it runs where the predicate is false.
      otherwise: the result where it does not run; None: nothing is defined then.
      target: of a branch, the region.
    """

    result: str
    opcode: str
    operands: tuple[str, ...]
    predicate: str | None = None
    negated: bool = False
    otherwise: str | None = None
    target: int | None = None


@dataclasses.dataclass(frozen=True)
class Bundles:
    """The bundles of a kernel.

    Attributes:
      count: how many.
      operations: by bundle; bundles without any are left out.
      regions: the bundle each region begins at.
    """

    count: int
    operations: dict[int, tuple[Operation, ...]]
    regions: dict[int, int]


def parse(text: str) -> Bundles:
    """Read a `final_bundles` file."""
    operations: dict[int, tuple[Operation, ...]] = {}
    regions: dict[int, int] = {}
    count = 0
    for line in _bundles(text):
        if "region" in line:
            for found in _REGION.finditer(line):
                regions.setdefault(int(found.group(1)), count)
        if _WORTH.search(line):
            inside = _COMMENT.sub("", line)
            inside = inside[inside.index("{") + 1 : inside.rindex("}")]
            if found := tuple(_operations(inside)):
                operations[count] = found
        count += 1
    return Bundles(count, operations, regions)


def _bundles(text: str) -> Iterator[str]:
    """The text of one bundle after another; comments may break lines."""
    whole = ""
    for line in text.splitlines():
        if _BUNDLE.match(line):
            if whole:
                yield whole
            whole = line
        elif whole:
            whole += line
    if whole:
        yield whole


def _operations(inside: str) -> Iterator[Operation]:
    for part in inside.split(";;"):
        found = _DEFINED.match(part.strip())
        if found is None:
            continue
        result, opcode, rest = found.groups()
        if opcode not in ("sbr.rel", "sst") and not re.search(r"_[sp]\d+$", result):
            continue
        rest, predicate, negated, otherwise = rest.strip(), None, False, None
        if guarded := _PREDICATE.match(rest):
            negated, predicate, otherwise = bool(guarded.group(1)), guarded.group(2), guarded.group(3)
            rest = rest[guarded.end() :]
        target = _TARGET.search(rest)
        yield Operation(
            result,
            opcode,
            () if target else _operands(rest, opcode),
            predicate,
            negated,
            otherwise,
            int(target.group(1)) if target else None,
        )


def _operands(rest: str, opcode: str) -> tuple[str, ...]:
    if opcode == "sst":  # [smem:ADDRESS] VALUE
        address, _, value = rest.rpartition("]")
        return address.strip() + "]", value.strip()
    if opcode == "sld":
        return (rest.strip(),)
    return tuple(part.strip() for part in rest.split(",") if part.strip())
