"""How many cycles a TPU kernel's schedule takes: its loops and branches are run, everything else is counted.

The scalar unit decides what runs. Its instructions that branches depend on are carried out here with the numbers that
stand in the text; a bundle is a cycle, and those behind a branch that it cannot stop any more run as well. Waiting for
memory is not in it: that is for whoever knows the transfers.
"""

import operator
from collections.abc import Callable, Iterable
from typing import NamedTuple

from talkverse_jax.plan.llo_text import Bundles, Operation

_DELAY = 4  # bundles behind a branch that run all the same
_MOST = 20_000_000  # bundles with operations carried out
_WORD = 1 << 32

Value = int | bool | None  # None: not known


class Cycles(NamedTuple):
    """What a kernel takes.

    Attributes:
      count: cycles.
      unknown: branches on what the text does not tell, which were taken as not jumping.
    """

    count: int
    unknown: int


def cycles(schedule: Bundles, most: int = _MOST) -> Cycles:
    """Run a schedule's control flow.

    Args:
      most: bundles that are carried out.

    Raises:
      ValueError: it does not end within them.
    """
    return _Run(schedule).run(most)


class _Run:
    def __init__(self, schedule: Bundles):
        self._schedule = schedule
        needed = _needed(schedule)
        # Bundle -> what is carried out there; the rest of the bundles only count.
        self._steps = {
            place: tuple(each for each in found if each.target is not None or _writes(each) in needed)
            for place, found in sorted(schedule.operations.items())
        }
        self._steps = {place: found for place, found in self._steps.items() if found}
        self._places = sorted(self._steps)
        following = {}
        at = len(self._places)
        for place in range(schedule.count, -1, -1):
            while at > 0 and self._places[at - 1] >= place:
                at -= 1
            following[place] = at
        self._following = following  # the index of the first place at or behind a bundle
        self._values: dict[str, Value] = {}
        self._written: dict[str, int] = {}
        self._time = 0
        self._unknown: set[int] = set()

    def run(self, most: int) -> Cycles:
        count = place = done = 0
        end = self._schedule.count
        while place < end:
            index = self._following[place]
            if index == len(self._places):
                count += end - place
                break
            at = self._places[index]
            done += 1
            if done > most:
                raise ValueError("the schedule does not end")
            target = self._carry_out(at)
            if target is None:
                count, place = count + at + 1 - place, at + 1
                continue
            last = min(at + _DELAY, end - 1)
            for behind in range(at + 1, last + 1):
                if behind in self._steps:
                    self._carry_out(behind)
            count, place = count + last + 1 - place, target
        return Cycles(count, len(self._unknown))

    def _carry_out(self, place: int) -> int | None:
        """Carry out a bundle; the bundle that it jumps to."""
        jump, results = None, []
        for each in self._steps[place]:
            allowed = self._allowed(each)
            if each.target is not None:
                if allowed is None:
                    self._unknown.add(place)
                if allowed:
                    jump = self._schedule.regions.get(each.target)
                continue
            results.append((_writes(each), self._result(each, allowed)))
        self._time += 1
        for name, value in results:  # all of a bundle read before any writes
            if value is not _KEEP:
                self._values[name], self._written[name] = value, self._time
        return jump

    def _allowed(self, each: Operation) -> bool | None:
        if each.predicate is None:
            return True
        value = self._values.get(each.predicate)
        return None if value is None else bool(value) != each.negated

    def _result(self, each: Operation, allowed: bool | None) -> "Value | _Keep":
        if allowed is None:
            return None
        if not allowed:
            return _KEEP if each.otherwise is None else self._value(each.otherwise)
        if each.opcode == "sst":
            return self._value(each.operands[1])
        if each.opcode == "sld":
            return self._values.get(each.operands[0])
        if each.opcode == "sphi":  # all are in one register, which holds what was written last
            names = [name.removeprefix("%") for name in each.operands]
            latest = max(names, key=lambda name: self._written.get(name, -1))
            return self._values.get(latest)
        if each.opcode == "scalar_select":
            chosen = self._value(each.operands[0])
            return None if chosen is None else self._value(each.operands[1 if chosen else 2])
        compute = _OPERATIONS.get(each.opcode)
        if compute is None:
            return None
        operands = [self._value(operand) for operand in each.operands]
        if each.opcode in _LOGIC:
            return _LOGIC[each.opcode](*operands)
        return None if any(value is None for value in operands) else compute(*operands)

    def _value(self, text: str) -> Value:
        if text.startswith("%"):
            return self._values.get(text[1:])
        try:
            return int(text, 0)
        except ValueError:
            return None


class _Keep:
    """A result that stays what it was."""


_KEEP = _Keep()


def _writes(each: Operation) -> str:
    """The name or the place in memory that an instruction writes."""
    return each.operands[0] if each.opcode == "sst" else each.result


def _reads(each: Operation) -> Iterable[str]:
    if each.predicate is not None:
        yield each.predicate
    if each.otherwise is not None and each.otherwise.startswith("%"):
        yield each.otherwise[1:]
    if each.opcode == "sld":
        yield each.operands[0]
        return
    for operand in each.operands[1:] if each.opcode == "sst" else each.operands:
        if operand.startswith("%"):
            yield operand[1:]


def _needed(schedule: Bundles) -> set[str]:
    """Names and places in memory that branches depend on."""
    by_result: dict[str, list[Operation]] = {}
    waiting: list[str] = []
    for found in schedule.operations.values():
        for each in found:
            if each.target is not None:
                waiting += _reads(each)
            else:
                by_result.setdefault(_writes(each), []).append(each)
    needed: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += [read for each in by_result.get(name, ()) for read in _reads(each)]
    return needed


def _signed(value: int) -> int:
    value %= _WORD
    return value - _WORD if value >= _WORD >> 1 else value


def _unsigned(compute: Callable[[int, int], int]) -> Callable[[int, int], int]:
    return lambda a, b: _signed(compute(a % _WORD, b % _WORD))


def _compared(compare: Callable[[int, int], bool], read: Callable[[int], int]) -> Callable[[int, int], bool]:
    return lambda a, b: compare(read(a), read(b))


def _shift(value: int, by: int) -> int:
    return value >> by if by < 32 else 0


_LOGIC: dict[str, Callable[..., bool | None]] = {
    "por": lambda a, b: True if a or b else None if a is None or b is None else False,
    "pnand": lambda a, b: True if a is False or b is False else None if a is None or b is None else False,
    "pand": lambda a, b: False if a is False or b is False else None if a is None or b is None else True,
    "pneg": lambda a: None if a is None else not a,
    "pmov": lambda a: a,
}
_OPERATIONS: dict[str, Callable[..., int | bool | None]] = {
    "smov.u32": lambda a: a,
    "sadd.s32": lambda a, b: _signed(a + b),
    "ssub.s32": lambda a, b: _signed(a - b),
    "smul.u32": _unsigned(operator.mul),
    "smulhi.u32": _unsigned(lambda a, b: (a * b) >> 32),
    "sand.u32": _unsigned(operator.and_),
    "sor.u32": _unsigned(operator.or_),
    "sxor.u32": _unsigned(operator.xor),
    "sshll.u32": _unsigned(lambda a, b: a << b if b < 32 else 0),
    "sshrl.u32": _unsigned(_shift),
    "sshra.s32": lambda a, b: _signed(a) >> min(b, 31),
    "sc.u32": _compared(lambda a, b: a + b >= _WORD, lambda a: a % _WORD),  # the carry of a sum
    **_LOGIC,
    **{
        f"scmp.{name}.{sign}32.totalorder": _compared(getattr(operator, name), read)
        for name in ("lt", "le", "gt", "ge", "eq", "ne")
        for sign, read in (("s", _signed), ("u", lambda value: value % _WORD))
    },
}
