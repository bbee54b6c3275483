"""When a TPU program's operations run, by the compiler's own schedule of each.

A kernel takes the cycles of its bundles (`llo_cycles`), or as long as its bytes take through main memory where that is
more. Copies and collectives that were started before they are needed go on beside other work; what is left of them
when they are needed is waited for. Nothing is known of what happens between kernels, nor of banks and hops in memory
and links: a machine is a little slower than this.
"""

import dataclasses
from collections.abc import Mapping

from talkverse_jax.plan.hlo_cost import Cost, instruction_cost
from talkverse_jax.plan.hlo_loops import Value, evaluate, loop_values, trip_count
from talkverse_jax.plan.hlo_memory import traffic
from talkverse_jax.plan.hlo_source import SourcePlaces
from talkverse_jax.plan.hlo_text import CompiledProgram, Computation, Instruction, parse
from talkverse_jax.plan.kernels import CompiledKernel, Kernels
from talkverse_jax.sharding.topologies import Topology

_SCALAR = 1024  # bytes below which an operation is the scalar unit's, in the program around the kernels


@dataclasses.dataclass(frozen=True)
class Piece:
    """What all runs of one kernel, or of one transfer, take.

    Attributes:
      source: where in our code it comes from.
      seconds: of the device's time, waiting included.
      flops: of its products.
      memory: bytes through main memory, at least.
    """

    name: str
    source: str
    runs: float
    seconds: float
    flops: float
    memory: float


@dataclasses.dataclass(frozen=True)
class Timetable:
    """A program's time on one device.

    Attributes:
      seconds: from its beginning to its end.
      exposed: of that, waiting for other devices.
      copies: of that, waiting for copies from and to main memory.
      pieces: the longest first.
      missing: operations without a schedule, which count as their products at the data sheet's rate or their bytes
        through memory.
      unsure: kernels with branches on what their text does not tell, which count as not taken.
      stalled: kernels with fewer bundles than their products need cycles (v5e, v5p and tpu7x wait for the matrix
        units without a bundle that says so); they count as their products.
    """

    seconds: float
    exposed: float
    copies: float
    pieces: tuple[Piece, ...]
    missing: tuple[str, ...] = ()
    unsure: tuple[str, ...] = ()
    stalled: tuple[str, ...] = ()


def schedule(text: str, kernels: Kernels, topology: Topology) -> Timetable:
    """The schedule of a compiled program.

    Args:
      text: the optimised HLO of one device.
      kernels: of the same compilation.
    """
    program = parse(text)
    run = _Run(program, kernels.matched(program), SourcePlaces(text), topology)
    run.computation(program.entry, [None] * len(program.entry.parameters), 1.0)
    return run.result()


@dataclasses.dataclass
class _Transfer:
    """Bytes that are still to be moved."""

    key: str
    left: float


class _Run:
    def __init__(
        self,
        program: CompiledProgram,
        kernels: Mapping[str, CompiledKernel],
        sources: SourcePlaces,
        topology: Topology,
    ):
        generation = topology.generation
        assert generation.clock and generation.hbm_bandwidth and generation.flops, f"{topology.name}: no data sheet"
        self._program, self._kernels, self._sources = program, kernels, sources
        self._clock, self._memory_rate = generation.clock, generation.hbm_bandwidth
        self._flops = generation.flops
        self._link_rate = topology.interconnect_bandwidth or float("inf")
        self._copies: list[_Transfer] = []
        self._sent: list[_Transfer] = []
        self._announced: dict[str, float] = {}
        self._seconds = self._exposed = self._waited = 0.0
        self._pieces: dict[str, Piece] = {}
        self._missing: dict[str, None] = {}
        self._unsure: dict[str, None] = {}
        self._stalled: dict[str, None] = {}

    def result(self) -> Timetable:
        pieces = sorted(self._pieces.values(), key=lambda piece: -piece.seconds)
        doubts = (tuple(each) for each in (self._missing, self._unsure, self._stalled))
        return Timetable(self._seconds, self._exposed, self._waited, tuple(pieces), *doubts)

    def computation(self, computation: Computation, arguments: list[Value], times: float) -> None:
        """Run a computation; what it takes counts so many times."""
        env: dict[str, Value] = {}
        for instruction in computation.instructions:
            opcode = instruction.opcode

            def value(name: str) -> Value:
                return evaluate(self._program, computation, name, arguments, env)

            if opcode == "while":
                self._loop(instruction, value(instruction.operands[0]), times)
            elif opcode == "conditional":
                self._branches(instruction, times)
            elif opcode == "call":
                called = self._program.computations[instruction.called("to_apply")[0]]
                self.computation(called, [value(name) for name in instruction.operands], times)
            else:
                self._operation(computation, instruction, times)

    def _loop(self, loop: Instruction, initial: Value, times: float) -> None:
        body = self._program.computations[loop.called("body")[0]]
        condition = self._program.computations[loop.called("condition")[0]]
        trips = trip_count(self._program, loop, condition, body, initial)
        if trips is None:
            self._missing[f"the trips of loop {loop.name}"] = None
        inside = loop_values(body, initial)
        if trips == 0:
            return
        self.computation(body, [inside], times)  # what was started before the loop goes on in its first pass
        if trips and trips > 1:
            self.computation(body, [inside], times * (trips - 1))

    def _branches(self, instruction: Instruction, times: float) -> None:
        """Of several branches, the one that takes longest counts."""
        names = instruction.called("branch_computations", "true_computation", "false_computation")
        before = _Saved(self)
        taken = None
        for name in names:
            before.restore(self)
            self.computation(self._program.computations[name], [None], times)
            if taken is None or self._seconds > taken.seconds:
                taken = _Saved(self)
        if taken is not None:
            taken.restore(self)

    def _operation(self, computation: Computation, instruction: Instruction, times: float) -> None:
        opcode, name = instruction.opcode, instruction.name
        cost = instruction_cost(self._program, computation, instruction)
        nbytes = float(traffic(self._program, computation, instruction))
        if opcode.endswith("-start"):
            self._start(instruction, cost, nbytes)
        elif opcode == "async-update":
            self._go_on(instruction)
        elif opcode.endswith("-done"):
            self._wait(instruction.operands[0], instruction, times)
        else:
            chain, ends = _chain(self._program, instruction)
            if cost.all_received and chain:
                self._sent.append(_Transfer(chain, cost.all_received))
            if not chain or name in self._kernels:
                self._work(instruction, cost, nbytes, times)
            if chain and ends:
                self._wait(chain, instruction, times)
            elif cost.all_received and not chain:  # nothing goes on beside it
                self._sent.append(_Transfer(name, cost.all_received))
                self._wait(name, instruction, times)

    def _start(self, instruction: Instruction, cost: Cost, nbytes: float) -> None:
        if cost.all_received and not instruction.operands:  # a sparse core gets ready; it is told later of what
            self._announced[instruction.name] = cost.all_received
        elif cost.all_received:
            self._sent.append(_Transfer(instruction.name, cost.all_received))
        elif nbytes:
            self._copies.append(_Transfer(instruction.name, nbytes))

    def _go_on(self, update: Instruction) -> None:
        """A transfer goes on, or begins, under another name."""
        before = update.operands[0]
        if before in self._announced:
            self._sent.append(_Transfer(update.name, self._announced.pop(before)))
        for each in (*self._sent, *self._copies):
            if each.key == before:
                each.key = update.name

    def _wait(self, key: str, instruction: Instruction, times: float) -> None:
        """Wait for a transfer; those started before it go first."""
        for queue, rate, copies in ((self._sent, self._link_rate, False), (self._copies, self._memory_rate, True)):
            place = next((i for i, each in enumerate(queue) if each.key == key), None)
            if place is None:
                continue
            seconds = sum(each.left for each in queue[: place + 1]) / rate
            del queue[: place + 1]
            other, other_rate = (self._sent, self._link_rate) if copies else (self._copies, self._memory_rate)
            _drain(other, seconds * other_rate)
            self._seconds += times * seconds
            if copies:
                self._waited += times * seconds
            else:
                self._exposed += times * seconds
            if seconds:
                self._note("waiting for " + instruction.opcode, instruction, times, seconds, Cost(), 0.0)

    def _work(self, instruction: Instruction, cost: Cost, nbytes: float, times: float) -> None:
        found = self._kernels.get(instruction.name)
        moved, products = nbytes / self._memory_rate, cost.bf16_flops / self._flops
        if found is None:
            if nbytes < _SCALAR and not cost.flops:
                return
            self._missing[f"{instruction.name} ({instruction.opcode})"] = None
            kernel, seconds = instruction.name, max(moved, products)
        else:
            kernel, busy = found.name, found.cycles.count / self._clock
            seconds = max(busy, moved, products)
            if found.cycles.unknown:
                self._unsure[kernel] = None
            if products > busy:
                self._stalled[kernel] = None
        self._seconds += times * seconds
        _drain(self._copies, (seconds - moved) * self._memory_rate)
        _drain(self._sent, seconds * self._link_rate)
        self._note(kernel, instruction, times, seconds, cost, nbytes)

    def _note(
        self, name: str, instruction: Instruction, times: float, seconds: float, cost: Cost, nbytes: float
    ) -> None:
        before = self._pieces.get(name)
        source = before.source if before else self._sources.of(self._program, instruction)
        past = before or Piece(name, source, 0.0, 0.0, 0.0, 0.0)
        self._pieces[name] = Piece(
            name,
            source,
            past.runs + times,
            past.seconds + times * seconds,
            past.flops + times * cost.flops,
            past.memory + times * nbytes,
        )


class _Saved:
    """What a run has found so far."""

    def __init__(self, run: _Run):
        self.seconds = run._seconds
        self._rest = (run._exposed, run._waited, dict(run._pieces), _copied(run._copies), _copied(run._sent))

    def restore(self, run: _Run) -> None:
        run._seconds = self.seconds
        run._exposed, run._waited, pieces, copies, sent = self._rest
        run._pieces, run._copies, run._sent = dict(pieces), _copied(copies), _copied(sent)


def _copied(queue: list[_Transfer]) -> list[_Transfer]:
    return [dataclasses.replace(each) for each in queue]


def _drain(queue: list[_Transfer], nbytes: float) -> None:
    """Move so many bytes of what waits, the first first; what has been moved stays until it is asked for."""
    for each in queue:
        moved = min(each.left, nbytes)
        each.left -= moved
        nbytes -= moved
        if nbytes <= 0:
            return


def _chain(program: CompiledProgram, instruction: Instruction) -> tuple[str | None, bool]:
    """The collective that a fusion goes on with, where XLA:TPU has spread one over several; whether it ends there."""
    if instruction.opcode != "fusion":
        return None, False
    inside = program.computations[instruction.called("calls")[0]].instructions
    chain = next((found for each in inside if (found := each.attribute(r'chain_id="(\w+)"'))), None)
    return chain, any('"AsyncCollectiveDone"' in each.rest for each in inside)
