"""One program on one topology: what it needs and what it costs a device, by compiling it or by estimate."""

import dataclasses
import hashlib
import re
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import jax

from talkverse_jax.pipeline.programs import Program, shard_bytes
from talkverse_jax.plan.hlo_cost import Cost, program_cost
from talkverse_jax.plan.hlo_memory import Buffer, largest_buffers
from talkverse_jax.plan.kernels import Dump
from talkverse_jax.plan.schedule import Timetable, schedule
from talkverse_jax.sharding.topologies import Topology

_OUT_OF_MEMORY = re.compile(r"CompileTimeHbmOom: (.*required.* \(([\d.]+)([KMGT]?)\) exceeds [^()]*\([^()]*\))")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Planned:
    """A program on a device of a topology; sizes in bytes, times in seconds.

    Attributes:
      times, when: see `Work`.
      estimated: from the model's sizes alone; nothing was compiled.
      weights, inputs, temporaries, outputs: of the program; outputs that take an input's place are not counted.
      beside: weights of other models in memory meanwhile.
      limit: what there is; None: unknown.
      complaint: the compiler's own words where the program does not fit.
      model_flops: the models' own, on all devices together.
      cost: of one device.
      compute, memory, interconnect, host: times below which it cannot run, the last for weights that come from the
        host's memory; None: unknown, or nothing to wait for.
      peak: FLOP/s of a device.
      sha256: of the optimised HLO, without the places in source files.
      compile_seconds: of the processor, in all its threads, for tracing and compiling.
    """

    name: str
    times: int
    when: str
    estimated: bool
    devices: int
    weights: int
    inputs: int
    temporaries: int
    outputs: int
    beside: dict[str, int]
    limit: int | None
    model_flops: float
    cost: Cost
    compute: float | None
    memory: float | None
    interconnect: float | None
    host: float | None = None
    schedule: Timetable | None = None
    peak: float | None = None
    complaint: str | None = None
    buffers: tuple[Buffer, ...] = ()
    sha256: str | None = None
    compile_seconds: float = 0.0

    @property
    def total(self) -> int:
        return self.weights + self.inputs + self.temporaries + self.outputs + sum(self.beside.values())

    @property
    def fits(self) -> bool:
        return self.complaint is None and (self.limit is None or self.total <= self.limit)

    @property
    def waste(self) -> float:
        """What is computed beyond the models' own, as a share of it; below 0 something was not counted."""
        return self.cost.flops * self.devices / self.model_flops - 1 if self.model_flops else 0.0

    @property
    def faults(self) -> list[str]:
        """Why the counts cannot be right; none: they can."""
        found = [f"{self.name}: cannot count {what}" for what in self.cost.unknown]
        if self.waste < -1e-9:
            found.append(f"{self.name}: {-self.waste:.2%} of the model's FLOPs were not found in the program")
        return found

    @property
    def bound(self) -> str | None:
        """What takes longest at best."""
        times = {name: getattr(self, name) or 0.0 for name in ("compute", "memory", "interconnect", "host")}
        return max(times, key=times.__getitem__) if any(times.values()) else None

    @property
    def best(self) -> float | None:
        """Seconds it takes at least, were all that can overlap to overlap."""
        return getattr(self, self.bound) if self.bound else None

    @property
    def mfu(self) -> float | None:
        """The models' own FLOPs in the time of the schedule, of what the data sheet promises."""
        if self.schedule is None or not self.peak or not self.model_flops:
            return None
        return self.model_flops / self.devices / self.schedule.seconds / self.peak


class Bounds(NamedTuple):
    """Seconds below which a device cannot run a program; None: unknown, or nothing to wait for."""

    compute: float | None
    memory: float | None
    interconnect: float | None


def bounds(topology: Topology, cost: Cost, float32: bool) -> Bounds:
    """Times below which a device cannot run a program."""
    generation, links = topology.generation, topology.interconnect_bandwidth
    flops, rate = cost.bf16_flops, generation.flops
    if float32 and generation.float32_flops:
        flops, rate = cost.flops, generation.float32_flops
    received = cost.all_received
    return Bounds(
        flops / rate if rate else None,
        cost.memory / generation.hbm_bandwidth if generation.hbm_bandwidth and cost.memory else None,
        received / links if links and received else None,
    )


def compile_program(program: Program, topology: Topology, devices: int, dump: Dump | None = None) -> Planned:
    """Compile a program for the devices its arguments lie on, and count.

    Args:
      devices: how many run it.
      dump: of this process's TPU compiler; without it there is no schedule.
    """
    begin = time.process_time()
    call = program.call()
    lowered = call.function.lower(*call.args, **call.static)
    # Not of the compiler: what this program does not use of a model is in memory all the same.
    arrays = [x for x in jax.tree.leaves((call.args, call.static)) if isinstance(x, jax.ShapeDtypeStruct)]
    weights, inputs = program.weights, sum(map(shard_bytes, arrays)) - program.weights
    temporaries = outputs = 0
    complaint = None
    with tempfile.TemporaryDirectory() as folder:
        # Where XLA:TPU puts the text: that of a program that does not fit is found there alone, and jaxlib 0.10.2
        # cannot read back all that libtpu 0.0.51 compiles (asynchronous slices of v5p).
        options = {"xla_dump_to": folder, "xla_dump_hlo_as_text": True} if topology.libtpu else None
        try:
            compiled = lowered.compile(compiler_options=options)
        except jax.errors.JaxRuntimeError as error:
            found = _OUT_OF_MEMORY.search(str(error))
            if found is None:
                raise
            complaint = found.group(1)
            text = _dumped(folder)
            temporaries = max(0, int(float(found.group(2)) * _UNITS[found.group(3)]) - weights - inputs)
        else:
            text, memory = _dumped(folder) if options else compiled.as_text(), compiled.memory_analysis()
            temporaries = memory.temp_size_in_bytes + memory.generated_code_size_in_bytes
            outputs = memory.output_size_in_bytes - memory.alias_size_in_bytes
    spent = time.process_time() - begin
    kernels = dump.take() if dump and topology.libtpu else None
    cost, work = program_cost(text), program.work
    planned = Planned(
        name=work.name,
        times=work.times,
        when=work.when,
        estimated=False,
        devices=devices,
        weights=weights,
        inputs=inputs,
        temporaries=temporaries,
        outputs=outputs,
        beside=dict(program.beside),
        limit=topology.generation.hbm,
        model_flops=work.flops,
        cost=cost,
        **bounds(topology, cost, work.float32)._asdict(),
        schedule=schedule(text, kernels, topology) if kernels else None,
        peak=topology.generation.flops,
        complaint=complaint,
        sha256=_sha256(text),
        compile_seconds=round(spent, 1),
    )
    return planned if planned.fits else dataclasses.replace(planned, buffers=tuple(largest_buffers(text)))


def _dumped(folder: str) -> str:
    """The program's text; what XLA:TPU gives its sparse cores to do has files of its own, all smaller."""
    files = Path(folder).glob("*.after_optimizations.txt")
    return max(files, key=lambda path: path.stat().st_size).read_text()


def _sha256(text: str) -> str:
    """Of the program without tables of source lines and metadata, which differ from one checkout to another."""
    head, _, rest = text.partition("\n")
    body = rest[rest.index("\n%") if "\n%" in rest else rest.index("\nENTRY") :]
    return hashlib.sha256((head + re.sub(r", metadata=\{[^}]*\}", "", body)).encode()).hexdigest()
