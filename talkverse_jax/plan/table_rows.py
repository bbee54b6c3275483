"""What a row of docs/tpu.md says, and the file beside the page in which the rows are kept."""

import dataclasses
import datetime
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path

from talkverse_jax.core import presets
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import write_json
from talkverse_jax.pipeline import registry
from talkverse_jax.plan import plan
from talkverse_jax.plan.compile import Planned
from talkverse_jax.plan.kernels import Dump
from talkverse_jax.plan.report import GB, TopologyPlan
from talkverse_jax.plan.sampling import SamplingRun, sampling_options
from talkverse_jax.plan.table_cases import Case, cases
from talkverse_jax.plan.training import TrainingRun, training_options
from talkverse_jax.sharding import topologies
from talkverse_jax.sharding.mesh_config import MeshConfig


@dataclasses.dataclass(frozen=True)
class Figures:
    """What a program costs a device; None: unknown.

    Attributes:
      memory_gb, limit_gb: what it takes of what there is.
      bound_ms: it cannot be faster.
      bound: what takes so long.
      waste: products beside the model's own, as a share of these.
      received_gb: through collectives.
      hbm_gb: that it moves from and to main memory at least.
      schedule_ms, exposed_ms: by the compiler's schedule, and of it waiting for other devices.
      mfu: of the schedule.
      compile_seconds: of the processor.
    """

    memory_gb: float
    limit_gb: float
    fits: bool
    bound_ms: float
    bound: str | None
    waste: float | None = None
    received_gb: float | None = None
    hbm_gb: float | None = None
    schedule_ms: float | None = None
    exposed_ms: float | None = None
    mfu: float | None = None
    compile_seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class TableRow:
    """A row as it is kept.

    Attributes:
      made: the day.
      jaxlib, libtpu: of the compiler; None: estimated from the models' sizes.
      mesh: its axes that are longer than 1.
      size: of the video in pixels, `640x640`.
      count: steps of a clip, or samples of an update.
      programs: by name; an update of training is one.
      note: what else was different when it was made.
    """

    made: str
    jaxlib: str | None
    libtpu: str | None
    mesh: str
    devices: int
    size: str
    count: int
    programs: Mapping[str, Figures]
    note: str = ""


def make(case: Case, dump: Dump | None = None) -> TableRow:
    """Plan a row. Its schedule is unknown without the compiler's dump."""
    where, training = topologies.find(case.topology), case.batch is not None
    family = registry.find(str(presets.read(case.config).get("family", registry.DEFAULT)))
    mesh = MeshConfig.read(case.mesh) if case.mesh else None
    if training:
        options = training_options(case.config, family.name)
        asked = dataclasses.replace(options.optimization, batch_size=case.batch)
        run = TrainingRun(family, family.real_size(), dataclasses.replace(options, optimization=asked), (640, 640))
    else:
        settings, machine = sampling_options(family.name, case.config)
        run = SamplingRun(family, family.real_size(), settings, machine, family.sizes(settings)[0])
    chosen_mesh = mesh or run.default_mesh(where)
    return row_of(plan.plan(where, chosen_mesh, run, () if training else case.programs, dump=dump))


def row_of(made: TopologyPlan) -> TableRow:
    """What is kept of a plan."""
    height, width = made.run.size
    estimated = any(program.estimated for program in made.programs)
    axes = [f"{name}={n}" for name, n in dataclasses.asdict(made.mesh).items() if n > 1]
    if isinstance(made.run, TrainingRun):
        programs, count = {"update": _of_update(made)}, made.run.samples
    else:
        programs = {program.name: _of_program(program) for program in made.programs}
        count = made.run.clip.steps
    return TableRow(
        made=datetime.datetime.now(datetime.UTC).date().isoformat(),
        jaxlib=None if estimated else importlib.metadata.version("jaxlib"),
        libtpu=None if estimated else plan.libtpu_version(),
        mesh=", ".join(axes) or "one device",
        devices=made.devices,
        size=f"{width}x{height}",
        count=count,
        programs=programs,
    )


def _of_program(program: Planned) -> Figures:
    assert program.limit and program.best, f"{program.name}: the machine has no data sheet"
    compiled, made = not program.estimated, program.schedule
    return Figures(
        memory_gb=_four(program.total / GB),
        limit_gb=_four(program.limit / GB),
        fits=program.fits,
        bound_ms=_four(1e3 * program.best),
        bound=program.bound,
        waste=_four(program.waste) if compiled else None,
        received_gb=_four(program.cost.all_received / GB) if compiled else None,
        hbm_gb=_four(program.cost.memory / GB) if compiled else None,
        schedule_ms=_four(1e3 * made.seconds) if made else None,
        exposed_ms=_four(1e3 * made.exposed) if made else None,
        mfu=_four(program.mfu) if program.mfu else None,
        compile_seconds=program.compile_seconds if compiled else None,
    )


def _of_update(made: TopologyPlan) -> Figures:
    """The gradients of all batches and the update as one; memory is that of whichever takes more."""
    assert made.update_seconds, f"{made.topology.name}: has no data sheet"
    worst = max(made.programs, key=lambda program: program.total)
    gradients, seconds = made.programs[0], made.scheduled_update
    waits = sum(p.times * p.schedule.exposed for p in made.programs if p.schedule)
    products = sum(p.times * p.model_flops for p in made.programs) / made.devices
    return dataclasses.replace(
        _of_program(worst),
        fits=made.fits,
        bound_ms=_four(1e3 * made.update_seconds),
        bound=gradients.bound,
        waste=_four(gradients.waste),
        received_gb=_four(sum(p.times * p.cost.all_received for p in made.programs) / GB),
        hbm_gb=_four(sum(p.times * p.cost.memory for p in made.programs) / GB),
        schedule_ms=_four(1e3 * seconds) if seconds else None,
        exposed_ms=_four(1e3 * waits) if seconds else None,
        mfu=_four(products / seconds / gradients.peak) if seconds and gradients.peak else None,
        compile_seconds=round(sum(p.compile_seconds for p in made.programs), 1),
    )


def _four(value: float) -> float:
    """Four significant digits: one more than the page shows."""
    return float(f"{value:.4g}")


def read(path: Path) -> dict[str, TableRow]:
    """The rows of a file by their keys; none where there is no file.

    Raises:
      UserError: it cannot be read, or is something else.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))["rows"]
        return {
            key: TableRow(**values | {"programs": {name: Figures(**each) for name, each in values["programs"].items()}})
            for key, values in kept.items()
        }
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})", field="output") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UserError(f"{path}: does not hold the page's rows; restore or remove it", field="output") from None


def write(path: Path, rows: Mapping[str, TableRow]) -> None:
    """Keep rows in a file, in the order of the page; those that are none of `cases` are left out."""
    kept = {case.key: dataclasses.asdict(rows[case.key]) for case in cases() if case.key in rows}
    write_json(path, {"rows": kept})
