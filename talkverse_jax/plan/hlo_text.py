"""The text of an XLA program as data: computations, instructions, shapes. Nothing here knows what they cost."""

import dataclasses
import functools
import math
import re
from collections.abc import Iterable, Iterator

_BITS = {"pred": 8, "token": 0, "opaque": 0, "bf16": 16, "c64": 64, "c128": 128}
_NUMBERS = re.compile(r"[a-z]+?(\d+)")  # s32, u8, f8e4m3fn: the first number counts bits

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,<=]*)\](?:\{([\d,]*)(?::([^}]*))?\})?")
_TILE = re.compile(r"T\(([\d,]+)\)")
_SPACE = re.compile(r"S\((\d+)\)")


@dataclasses.dataclass(frozen=True)
class HloShape:
    """An array as it lies in memory.

    Attributes:
      minor_to_major: axes from the fastest-changing one.
      tile: the block that the last axes (in memory order) are padded to; a TPU's, such as (8, 128).
      space: memory space; 0 is a device's main memory (HBM), on a TPU 1 its vector memory.
    """

    dtype: str
    dims: tuple[int, ...]
    minor_to_major: tuple[int, ...] = ()
    tile: tuple[int, ...] = ()
    space: int = 0

    @property
    def elements(self) -> int:
        return math.prod(self.dims)

    @property
    def nbytes(self) -> int:
        return -(-self.elements * _bits(self.dtype) // 8)

    @property
    def allocated(self) -> int:
        """Bytes with the padding of its tiles."""
        dims = [self.dims[axis] for axis in reversed(self.minor_to_major)]
        for back, block in enumerate(reversed(self.tile[-len(dims) :] if dims else ()), 1):
            dims[-back] = -(-dims[-back] // block) * block
        return -(-math.prod(dims) * _bits(self.dtype) // 8)

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.dims))}]"


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
      shapes: of its result; several for a tuple.
      operands: names of instructions of the same computation.
      literal: what stands between the parentheses (a constant's value, a parameter's number).
      rest: attributes, metadata and backend configuration.
    """

    name: str
    opcode: str
    shapes: tuple[HloShape, ...]
    operands: tuple[str, ...]
    literal: str
    rest: str
    is_root: bool

    @property
    def shape(self) -> HloShape:
        return self.shapes[0]

    @property
    def op_name(self) -> str:
        """Where in the program it comes from, as JAX names it."""
        return self.attribute(r'op_name="([^"]*)"') or ""

    def attribute(self, pattern: str) -> str | None:
        """The first group of `pattern` in the attributes."""
        found = re.search(pattern, self.rest)
        return found and found.group(1)

    def needed(self, pattern: str) -> str:
        """The same of an attribute that every instruction of its kind has."""
        if (found := self.attribute(pattern)) is None:
            raise ValueError(f"{self.name}: {pattern} is not in {self.rest[:200]}")
        return found

    def called(self, *attributes: str) -> tuple[str, ...]:
        """Names of the computations that the attributes name."""
        found = []
        for attribute in attributes:
            listed = self.attribute(rf"[ ,]{attribute}=(\{{[^}}]*\}}|%?[\w.\-]+)")
            found += re.findall(r"%?([\w.\-]+)", listed or "")
        return tuple(found)


class Computation:
    """Instructions in the order they stand in."""

    def __init__(self, name: str, instructions: tuple[Instruction, ...]):
        self.name = name
        self.instructions = instructions
        self.by_name = {instruction.name: instruction for instruction in instructions}
        self.root = next(instruction for instruction in instructions if instruction.is_root)
        self.parameters = {int(i.literal): i for i in instructions if i.opcode == "parameter"}

    @functools.cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """Of each instruction, those that take it."""
        users: dict[str, list[Instruction]] = {name: [] for name in self.by_name}
        for instruction in self.instructions:
            for operand in set(instruction.operands):
                users[operand].append(instruction)
        return users


@dataclasses.dataclass(frozen=True)
class CompiledProgram:
    """A compiled program of one device.

    Attributes:
      devices: how many run it together.
    """

    computations: dict[str, Computation]
    entry: Computation
    devices: int


def parse(text: str) -> CompiledProgram:
    """Read what `compiled.as_text()` gives."""
    computations: dict[str, Computation] = {}
    entry = name = None
    lines: list[str] = []
    for line in text.splitlines():
        header = _COMPUTATION.match(line)
        if header:
            name, lines = header.group(2), []
            entry = name if header.group(1) else entry
        elif line.split(", execution_thread=")[0] == "}" and name:
            computations[name] = Computation(name, tuple(_with_elements(map(_instruction, lines))))
            name = None
        elif name and _INSTRUCTION.match(line):
            lines.append(line)
        elif name and lines:  # attributes may hold line breaks
            lines[-1] += line
    if entry is None:
        raise ValueError("no entry computation: this is not the text of a compiled program")
    head = text.split("\n", 1)[0]
    counts = [re.search(rf"{key}=(\d+)", head) for key in ("num_partitions", "replica_count")]
    devices = math.prod(int(found.group(1)) for found in counts if found)
    return CompiledProgram(computations, computations[entry], devices)


def _instruction(line: str) -> Instruction:
    begin = _INSTRUCTION.match(line)
    assert begin, line[:200]
    at = begin.end()
    end = _closing(line, at) if line[at] == "(" else line.index(" ", at)
    shapes = tuple(_shape(match) for match in _ARRAY.finditer(line[at:end]))
    opened = line.index("(", end)
    opcode = line[end:opened].strip()
    closed = _closing(line, opened)
    inside = line[opened + 1 : closed - 1]
    operands = () if opcode in ("constant", "parameter") else tuple(re.findall(r"%([\w.\-#]+)", inside))
    is_root, name = bool(begin.group(1)), begin.group(2)
    return Instruction(name, opcode, shapes or (HloShape("token", ()),), operands, inside, line[closed:], is_root)


def _with_elements(instructions: Iterable[Instruction]) -> Iterator[Instruction]:
    """With an instruction for each element of a tuple that is taken by its short name, `%tuple#2` (JAX 0.12)."""
    found: dict[str, Instruction] = {}
    for instruction in instructions:
        for operand in instruction.operands:
            whole, _, index = operand.partition("#")
            if index and operand not in found:
                shapes, rest = (found[whole].shapes[int(index)],), f", index={index}"
                found[operand] = Instruction(operand, "get-tuple-element", shapes, (whole,), "", rest, False)
                yield found[operand]
        found[instruction.name] = instruction
        yield instruction


def _closing(line: str, opened: int) -> int:
    """The index behind the parenthesis that closes the one at `opened`."""
    depth = 0
    for at in range(opened, len(line)):
        depth += (line[at] == "(") - (line[at] == ")")
        if depth == 0:
            return at + 1
    raise ValueError(f"a parenthesis is not closed: {line[:200]}")


def _shape(match: re.Match) -> HloShape:
    dtype, dims, order, layout = match.groups()
    tile, space = _TILE.search(layout or ""), _SPACE.search(layout or "")
    lengths = tuple(int(n.removeprefix("<=")) for n in dims.split(",") if n)
    return HloShape(
        dtype,
        lengths,
        tuple(int(n) for n in order.split(",") if n) if order is not None else tuple(range(len(lengths)))[::-1],
        tuple(int(n) for n in tile.group(1).split(",")) if tile else (),
        int(space.group(1)) if space else 0,
    )


def _bits(dtype: str) -> int:
    if dtype in _BITS:
        return _BITS[dtype]
    number = _NUMBERS.match(dtype)
    assert number, dtype
    return int(number.group(1))
