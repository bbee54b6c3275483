"""A plan as a person reads it, and as JSON."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from talkverse_jax.plan.compile import Planned
from talkverse_jax.plan.sampling import SamplingRun
from talkverse_jax.plan.schedule import Timetable
from talkverse_jax.plan.training import TrainingRun
from talkverse_jax.sharding.mesh_config import MeshSizes
from talkverse_jax.sharding.topologies import Topology

GB = 1e9
_LONGEST = 10  # pieces that are shown
_WHEN = {"clip": "a clip", "first": "in the first", "video": "a video", "update": "an update"}


@dataclasses.dataclass(frozen=True)
class TopologyPlan:
    """A run on a topology.

    Attributes:
      programs: those of the run that were asked for.
    """

    topology: Topology
    devices: int
    mesh: MeshSizes
    run: SamplingRun | TrainingRun
    programs: tuple[Planned, ...]

    @property
    def fits(self) -> bool:
        return all(program.fits for program in self.programs)

    @property
    def faults(self) -> list[str]:
        return [fault for program in self.programs for fault in program.faults]

    @property
    def step(self) -> Planned | None:
        """The sampling step that makes up most of a clip."""
        steps = [p for p in self.programs if p.name.startswith("step")]
        return max(steps, key=lambda p: p.when == "clip", default=None)

    @property
    def clip_seconds(self) -> float | None:
        """Of one clip at best; None where a program of it is missing from the plan or its time unknown."""
        return self._seconds("clip")

    @property
    def update_seconds(self) -> float | None:
        """Of an update of training at best; None as above."""
        return self._seconds("update")

    @property
    def scheduled_update(self) -> float | None:
        """The same by the compiler's schedule; None where that is unknown."""
        if self.update_seconds is None or not all(p.schedule for p in self.programs):
            return None
        return sum(p.times * p.schedule.seconds for p in self.programs if p.schedule)

    def _seconds(self, when: str) -> float | None:
        best = {p.name: p.best for p in self.programs}
        times = [(work.times, best.get(work.name)) for work in self.run.work if work.when == when]
        known = [times * seconds for times, seconds in times if seconds is not None]
        return sum(known) if known and len(known) == len(times) else None

    def sentence(self) -> str:
        """What a person needs to know."""
        if self.faults:
            return f"no verdict: {self.faults[0]}"
        worst = max(self.programs, key=lambda p: p.total)
        mark = "estimate: " if worst.estimated else ""
        if not self.fits:
            over = [p for p in self.programs if not p.fits]
            worst = max(over, key=lambda p: p.total)
            limit = f" of {worst.limit / GB:.1f}" if worst.limit else ""
            others = ", ".join(p.name for p in over if p is not worst)
            taken = f"{worst.name} takes {worst.total / GB:.1f}{limit} GB"
            return f"{mark}does not fit: {taken}" + (f"; nor do {others}" if others else "")
        parts = [f"{mark}takes {worst.total / GB:.1f} GB ({worst.name})"]
        if worst.limit:
            parts = [f"{mark}fits: {worst.total / GB:.1f} of {worst.limit / GB:.1f} GB ({worst.name})"]
        if self.step and self.step.best:
            parts.append(f"{self.step.bound}-bound")
            clip = f", {in_seconds(self.clip_seconds)} {self.run.unit}" if self.clip_seconds else ""
            parts.append(f"at best {in_seconds(self.step.best)} a step{clip}")
        if self.step and (made := self.step.schedule):
            parts.append(f"by schedule {in_seconds(made.seconds)} a step")
        if self.update_seconds:
            parts.append(f"at best {in_seconds(self.update_seconds)} {self.run.unit}")
        if self.scheduled_update:
            parts.append(f"by schedule {in_seconds(self.scheduled_update)} {self.run.unit}")
        return "; ".join(parts)

    def as_json(self) -> dict[str, Any]:
        """Everything, as JSON holds it."""
        derived = ("total", "fits", "waste", "bound", "best", "mfu")
        programs = [
            dataclasses.asdict(program) | {name: getattr(program, name) for name in derived} | _times(program)
            for program in self.programs
        ]
        return {
            "topology": {
                "name": self.topology.name,
                "chips": self.topology.chips,
                "devices": self.devices,
                "device_kind": self.topology.generation.device_kind,
            },
            "devices": self.devices,
            "mesh": dataclasses.asdict(self.mesh),
            "job": self.run.as_json(),
            "dtype": self.run.dtype,
            "programs": programs,
            "faults": self.faults,
            "fits": self.fits and not self.faults,
            "clip_seconds": self.clip_seconds,
            "update_seconds": self.update_seconds,
            "sentence": self.sentence(),
        }


def _times(program: Planned) -> dict[str, float | None]:
    """What a program takes, in the units that people compare."""
    made = program.schedule
    return {
        "schedule_ms": made and 1e3 * made.seconds,
        "bound_ms": program.best and 1e3 * program.best,
        "hbm_gb": program.cost.memory / GB,
        "exposed_ms": made and 1e3 * made.exposed,
    }


def report(plan: TopologyPlan) -> str:
    """The plan in lines of at most 116 characters."""
    estimated = any(program.estimated for program in plan.programs)
    unit = "device" if plan.topology.generation.devices_per_chip > 1 else "chip"
    unit = {"gpu": "card", "cpu": "device"}.get(plan.topology.generation.platform, unit)
    lines = [_heading(plan), ""]
    memory = [["GB a " + unit, "weights", "inputs", "temporary", "outputs", "beside", "total", "of", "fits"]]
    streams = any(p.host for p in plan.programs)
    work = [["a " + unit, "TFLOP", "waste", "compute", "memory", "links", *["host"] * streams, "at best", "times"]]
    timed = any(p.schedule for p in plan.programs)
    schedules = [["by the compiler's schedule", "a run", "MFU", "HBM GB", "links wait", "copies wait"]]
    for p in plan.programs:
        name = f"~ {p.name}" if p.estimated else p.name
        sizes = (p.weights, p.inputs, p.temporaries, p.outputs, sum(p.beside.values()), p.total)
        shown = [f"{size / GB:.2f}" for size in sizes]
        if p.complaint:  # the compiler gives one figure for everything
            shown[3] = "-"
        memory.append([name, *shown, f"{p.limit / GB:.2f}" if p.limit else "?", "yes" if p.fits else "NO"])
        times = [
            in_seconds(t) if t else "-" for t in (p.compute, p.memory, p.interconnect, *[p.host] * streams, p.best)
        ]
        waste = "-" if p.estimated else f"{p.waste:.1%}"
        count = f"{p.times} {_WHEN[p.when]}"
        if p.schedule:
            waits = (in_seconds(t) if t > 5e-7 else "-" for t in (p.schedule.exposed, p.schedule.copies))
            mfu = f"{p.mfu:.1%}" if p.mfu else "-"
            schedules.append([name, in_seconds(p.schedule.seconds), mfu, _significant(p.cost.memory / GB), *waits])
        work.append([name, _significant(p.cost.flops / 1e12), waste, *times, count])
    lines += [*table_lines(memory), "", *table_lines(work), ""]
    if timed:
        lines += [*table_lines(schedules), ""]
    lines += _received(plan, unit)
    for p in plan.programs:
        if p.schedule:
            lines += _pieces(p, p.schedule)
    for p in plan.programs:
        if not p.fits:
            lines += _complaint(p)
    lines += [f"fault: {fault}" for fault in plan.faults]
    if estimated:
        lines.append("~ an estimate from the model's sizes: nothing was compiled, links and waste are not counted")
    return "\n".join([*lines, f"{plan.topology.name}: {plan.sentence()}"])


def _heading(plan: TopologyPlan) -> str:
    axes = dataclasses.asdict(plan.mesh)
    mesh = " ".join(f"{name}={size}" for name, size in axes.items() if size > 1) or "one device"
    chips = "" if plan.topology.generation.platform == "cpu" else f"{plan.topology.generation.device_kind}, "
    count = f"{plan.devices} device{'s' * (plan.devices > 1)}"
    return f"{plan.topology.name}  ({chips}{count}: {mesh})  {plan.run}, {plan.run.dtype}"


def _pieces(p: Planned, made: Timetable) -> list[str]:
    """Where a program's time goes, and what its schedule does not tell."""
    rows = [[f"longest of {p.name}", "share", "ms", "runs", "TFLOP", "GB"]]
    for piece in made.pieces[:_LONGEST]:
        numbers = (1e3 * piece.seconds, piece.runs, piece.flops / 1e12, piece.memory / GB)
        source = f"{piece.source or piece.name}"[:60]
        rows.append([source, f"{piece.seconds / made.seconds:.1%}", *(_significant(x) if x else "-" for x in numbers)])
    doubts = (
        (made.missing, "without a schedule count as their products or bytes"),
        (made.unsure, "branch on what the schedule does not tell: counted as not taken"),
        (made.stalled, "have fewer bundles than their products need cycles: counted as these"),
    )
    lines = [f"{p.name}: {len(found)} kernels {what}" for found, what in doubts if found]
    return [*table_lines(rows), *lines, ""]


def _complaint(p: Planned) -> list[str]:
    lines = [f"{p.name} does not fit" + (f": {p.complaint}" if p.complaint else "")]
    if p.beside:
        beside = ", ".join(f"{name} {size / GB:.2f} GB" for name, size in p.beside.items())
        lines.append(f"  beside it in memory: {beside}")
    lines += [f"  {buffer.nbytes / GB:8.3f} GB  {buffer.shape}  {buffer.op_name}"[:116] for buffer in p.buffers]
    return [*lines, ""]


def _received(plan: TopologyPlan, unit: str) -> list[str]:
    """Bytes through collectives by kind, if there are any."""
    kinds = sorted({kind for p in plan.programs for kind, size in p.cost.received.items() if size})
    if not kinds:
        return []
    rows = [[f"GB received a {unit}", *kinds, "all"]]
    for p in plan.programs:
        sizes = [p.cost.received.get(kind, 0.0) for kind in kinds]
        rows.append([p.name, *(_significant(size / GB) if size else "-" for size in (*sizes, sum(sizes)))])
    return [*table_lines(rows), ""]


def table_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns two spaces apart, names to the left, the rest to the right; a line under the heads."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths))) for row in rows
    ]
    return [lines[0].rstrip(), "-" * len(lines[0].rstrip()), *(line.rstrip() for line in lines[1:])]


def in_seconds(seconds: float) -> str:
    return f"{_significant(1000 * seconds)} ms" if seconds < 0.1 else f"{_significant(seconds)} s"


def _significant(value: float) -> str:
    """Three significant digits, no exponent, nothing below a ten-thousandth."""
    if abs(value) < 1e-4:
        return "0"
    return f"{value:.{min(4, max(0, 2 - math.floor(math.log10(abs(value)))))}f}"
