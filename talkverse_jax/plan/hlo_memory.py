"""What a compiled program moves through a device's main memory, at least, and its largest arrays there.

An operation reads what it uses of each input once (of a slice, the slice) and writes its result once (of an update
in place, what is new). Arrays in a TPU's vector memory do not count; padding to tiles does.
"""

import dataclasses

from talkverse_jax.plan.hlo_text import CompiledProgram, Computation, Instruction, parse

# What moves nothing by itself: names for parts of something else, and the ends of what was counted at its start.
_FREE = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "while",
    "conditional",
    "call",
    "after-all",
    "optimization-barrier",
    "partition-id",
    "replica-id",
    "async-start",
    "async-update",
}
_SLICES = ("slice", "dynamic-slice", "gather", "slice-start", "dynamic-slice-start")


@dataclasses.dataclass(frozen=True)
class Buffer:
    """An array in main memory: bytes with its padding, type, and where in the program it comes from."""

    nbytes: int
    shape: str
    op_name: str


def traffic(program: CompiledProgram, computation: Computation, instruction: Instruction) -> int:
    """Bytes that an operation outside fusions moves."""
    if _moves_nothing(instruction):
        return 0
    read = sum(
        _read(program, computation, instruction, index)
        for index, name in enumerate(instruction.operands)
        if computation.by_name[name].shape.space == 0
    )
    return read + sum(_written(program, computation, instruction))


def largest_buffers(text: str, count: int = 5) -> list[Buffer]:
    """The largest arrays that the program takes or its operations write; the same ones count once."""
    program = parse(text)
    fused = {
        name
        for computation in program.computations.values()
        for instruction in computation.instructions
        if instruction.opcode == "fusion"
        for name in instruction.called("calls")
    }
    found: dict[tuple[str, str], Buffer] = {}
    for computation in program.computations.values():
        if computation.name in fused:
            continue
        for instruction in computation.instructions:
            argument = instruction.opcode == "parameter" and computation is program.entry
            if _moves_nothing(instruction) and not argument:
                continue
            for shape in instruction.shapes:
                if shape.space == 0:
                    name = instruction.op_name or instruction.opcode
                    found.setdefault((str(shape), name), Buffer(shape.allocated, str(shape), name))
    return sorted(found.values(), key=lambda buffer: -buffer.nbytes)[:count]


def _moves_nothing(instruction: Instruction) -> bool:
    return (
        instruction.opcode in _FREE
        or instruction.opcode.endswith("-done")
        or 'custom_call_target="AllocateBuffer"' in instruction.rest
    )


def _read(program: CompiledProgram, computation: Computation, user: Instruction, index: int) -> int:
    """Bytes of its operand `index` that an instruction reads."""
    if user.opcode in _SLICES and index == 0:
        return user.shapes[user.opcode.endswith("-start")].allocated  # operand, result, flags
    if user.opcode == "dynamic-update-slice" and index == 0:
        return 0
    whole = computation.by_name[user.operands[index]].shape.allocated
    if user.opcode != "fusion":
        return whole
    called = program.computations[user.called("calls")[0]]
    return min(whole, _used(program, called, called.parameters[index]))


def _used(program: CompiledProgram, computation: Computation, value: Instruction) -> int:
    """Bytes of a value that its users read, within a fusion."""
    total = 0
    for user in computation.users[value.name]:
        if user.opcode == "bitcast":
            total += _used(program, computation, user)
        else:
            total += sum(
                _read(program, computation, user, index)
                for index, name in enumerate(user.operands)
                if name == value.name
            )
    return total


def _written(program: CompiledProgram, computation: Computation, instruction: Instruction) -> list[int]:
    """Bytes of each part of its result that an instruction writes."""
    shapes = instruction.shapes
    if instruction.opcode == "dynamic-update-slice":
        return [computation.by_name[instruction.operands[1]].shape.allocated]
    if instruction.opcode == "copy-start":
        shapes = shapes[:1]
    elif instruction.opcode.endswith("-start") and len(shapes) > 1:
        shapes = shapes[1:2]  # operand, result, flags
    sizes = [shape.allocated for shape in shapes]
    if instruction.opcode == "fusion":
        called = program.computations[instruction.called("calls")[0]]
        root = called.root
        parts = [called.by_name[name] for name in root.operands] if root.opcode == "tuple" else [root]
        sizes = [min(size, _new_bytes(program, called, part)) for size, part in zip(sizes, parts)]
    return [size for size, shape in zip(sizes, shapes) if shape.space == 0]


def _new_bytes(program: CompiledProgram, computation: Computation, part: Instruction) -> int:
    """Bytes that are new in a part of a fusion's result."""
    while part.opcode == "bitcast":
        part = computation.by_name[part.operands[0]]
    if part.opcode == "dynamic-update-slice":
        return computation.by_name[part.operands[1]].shape.allocated
    if part.opcode == "fusion" and len(part.shapes) == 1:
        called = program.computations[part.called("calls")[0]]
        return _new_bytes(program, called, called.root)
    return part.shape.allocated
