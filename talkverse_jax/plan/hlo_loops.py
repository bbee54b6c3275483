"""How often the loops of a compiled program run: integers followed through it, as far as they are known.

XLA:CPU writes the count beside a loop, XLA:TPU does not: there it follows from the first value of the counter, from
what one pass adds to it and from the condition.
"""

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

from talkverse_jax.plan.hlo_text import CompiledProgram, Computation, Instruction

Value = Any  # an int, a Predicate, a tuple of values; None where it is not known
Values = Sequence[Value]

_ARITHMETIC = {"add": operator.add, "subtract": operator.sub, "multiply": operator.mul}
_SAME = ("copy", "bitcast", "convert", "reshape", "copy-start", "copy-done", "optimization-barrier")


class Predicate(NamedTuple):
    """A predicate of two known integers."""

    left: int
    right: int
    direction: str


def evaluate(
    program: CompiledProgram,
    computation: Computation,
    name: str,
    arguments: Values,
    env: dict[str, Value],
) -> Value:
    """What an instruction gives, given the computation's arguments.

    Args:
      env: values found so far; extended.
    """
    if name not in env:
        env[name] = _evaluate(program, computation, computation.by_name[name], arguments, env)
    return env[name]


def _evaluate(program: CompiledProgram, computation: Computation, at: Instruction, arguments: Values, env) -> Value:
    def operand(index: int) -> Value:
        return evaluate(program, computation, at.operands[index], arguments, env)

    if at.opcode == "parameter":
        return arguments[int(at.literal)]
    if at.opcode == "constant":
        return int(at.literal) if at.literal.removeprefix("-").isdigit() else None
    if at.opcode == "tuple":
        return tuple(operand(index) for index in range(len(at.operands)))
    if at.opcode == "get-tuple-element":
        whole = operand(0)
        return whole[int(at.needed(r"index=(\d+)"))] if isinstance(whole, tuple) else None
    if at.opcode in _SAME:
        return operand(0)
    if at.opcode == "while":
        return loop_values(program.computations[at.called("body")[0]], operand(0))
    if at.opcode in ("fusion", "call") and not at.shape.dims:
        called = program.computations[at.called("calls", "to_apply")[0]]
        inside = [operand(index) for index in range(len(at.operands))]
        return evaluate(program, called, called.root.name, inside, {})
    if at.opcode in _ARITHMETIC or at.opcode == "compare":
        left, right = operand(0), operand(1)
        if not (isinstance(left, int) and isinstance(right, int)):
            return None
        if at.opcode == "compare":
            return Predicate(left, right, at.needed(r"direction=(\w+)"))
        return _ARITHMETIC[at.opcode](left, right)
    return None


def loop_values(body: Computation, initial: Value) -> Value:
    """What is known of a loop's tuple in every pass: the parts that the body hands on untouched."""
    if not isinstance(initial, tuple) or body.root.opcode != "tuple":
        return None
    return tuple(
        value if _handed_on(body, name, index) else None
        for index, (name, value) in enumerate(zip(body.root.operands, initial))
    )


def _handed_on(body: Computation, name: str, index: int) -> bool:
    at = body.by_name[name]
    return (
        at.opcode == "get-tuple-element"
        and body.by_name[at.operands[0]].opcode == "parameter"
        and at.attribute(r"index=(\d+)") == str(index)
    )


def trip_count(
    program: CompiledProgram, loop: Instruction, condition: Computation, body: Computation, initial: Value
) -> int | None:
    """How often the loop's body runs; None where the program does not tell."""
    known = loop.attribute(r'"known_trip_count":\{"n":"(\d+)"\}')
    if known:
        return int(known)
    second = evaluate(program, body, body.root.name, [initial], {})
    before = evaluate(program, condition, condition.root.name, [initial], {})
    after = evaluate(program, condition, condition.root.name, [second], {})
    if not (isinstance(before, Predicate) and isinstance(after, Predicate)):
        return None
    # The distance between the two sides shrinks by the same amount in each pass.
    left, right, direction = before
    distance = right - left if direction in ("LT", "LE", "NE") else left - right
    step = distance - (after.right - after.left if direction in ("LT", "LE", "NE") else after.left - after.right)
    if direction in ("LE", "GE"):
        distance += 1
    if distance <= 0:
        return 0
    return -(-distance // step) if step > 0 else None
