"""The page docs/tpu.md: what a sampling step and an update of training cost on each topology, compiled for each."""

import dataclasses
import importlib.metadata
import math
from pathlib import Path

from talkverse_jax.core.reporting import Reporter
from talkverse_jax.pipeline import registry
from talkverse_jax.plan import plan
from talkverse_jax.plan.options import TableOptions
from talkverse_jax.plan.report import GB, TopologyPlan
from talkverse_jax.plan.sampling import SamplingRun, sampling_options
from talkverse_jax.plan.training import TrainingRun, training_options
from talkverse_jax.sharding import topologies
from talkverse_jax.sharding.mesh_config import MeshConfig

TOPOLOGIES = (
    "v5e-4", "v5e-8", "v5e-16", "v5e-64", "v6e-1", "v6e-8", "v6e-16", "v6e-64", "v5p-8", "v5p-64", "tpu7x-8",
    "H100-1", "H100-8", "H200-1",
)  # fmt: skip
JOBS = {"640x640": "sample_480", "1280x704": "sample_720"}

# Meshes beside the presets: what one would try first, and why it is not the preset.
OTHERS = (
    ("v5e-4", "data=2,context=2"),
    ("v5e-8", "data=2,context=4"),
    ("v6e-8", "context=8"),
    ("v6e-8", "data=2,context=4,ulysses=1"),
    ("v6e-8", "data=2,fsdp=4"),
    ("v6e-8", "data=2,tensor=4"),
)

# Updates of training at 640x640, 193 frames: topology, strategy, mesh, batch.
UPDATES = (
    ("v5e-16", "lora", "fsdp=8,context=2", 8),
    ("v5p-8", "lora", "fsdp=4", 4),
    ("v6e-8", "lora", "fsdp=8", 8),
    ("v6e-64", "lora", "fsdp=64", 64),
    ("v5e-16", "full", "fsdp=8,context=2", 8),
    ("v5p-8", "full", "fsdp=4", 4),
    ("v6e-8", "full", "fsdp=8", 8),
    ("v6e-64", "full", "fsdp=64", 64),
)

_UPDATE_HEAD = ["topology", "trained", "mesh", "batch", "GB a device", "fits", "again", "GB received", "bound"]
_UPDATE_HEAD += ["an update", "device-s a sample"]

_HEAD = ["topology", "mesh", "GB a device", "fits", "waste", "GB received", "bound", "a step", "50 steps"]
_HEAD += ["device-s"]

_PAGE = """\
# What fits where

Written by `make plan-table`: the sampling step of the published model (5.7 billion parameters, bfloat16, both
branches of guidance, a clip of 120 frames with motion context) with the presets of `configs/mesh/`, compiled by
XLA:TPU for machines that were not there (jaxlib {jaxlib}, libtpu {libtpu}). Rows with `~` are GPUs, estimated from
the model's sizes alone. `python -m talkverse_jax plan` does the same for one machine, with every program of a
run; `make test-slow` compiles a row again and compares.

- **GB a device**: weights, inputs and temporaries of the step with the VAE's weights beside them, of what the
  compiler can use.
- **waste**: products computed beyond the model's own (padding, what several devices do alike).
- **GB received**: by one device through collectives, a step.
- **a step**: below this it cannot be: the longest of products at the data sheet's rate, memory traffic and links.
  Nothing here was timed on a TPU.
- **device-s**: devices x seconds of 50 steps, which is what a clip of 4.8 s costs.

{tables}
## Which mesh

The same on other meshes, at 640x640:

{others}
- **Up to eight devices**: each branch of guidance has half of them (`data=2`), and they share its sequence by heads
  (Ulysses, `context`). No padding to speak of, few bytes.
- **16 GB a chip (v5e)**: `fsdp=2` keeps half of the transformer's weights and gathers them block by block: the step
  would fit without, but the VAE's decode beside it has to fit too.
- **More devices**: heads allow 2, 3, 4, 6, 8, 12 or 24 to share them; beyond, rings of such groups.
- **`tensor`** moves the most and saves little here; **a ring alone** (`ulysses=1`) moves the keys and values of all
  tokens to everybody.

## Training 640x640, 193 frames

An update (`gradients` and `update` of `plan --train`, `configs/train_lora.toml` and `train_full.toml`): bfloat16
products, float32 parameters, gradients and Adam's moments, `remat full`, ROI loss in `full`, no accumulation.

{updates}
- **GB a device**: the most at once, of `gradients` with Adam's moments beside it or of `update`.
- **again**: products beyond the model's own (three times the forward pass for what is trained, twice for what is
  not): `remat full` makes the forward pass again, splash attention its scores twice more, and adapters are 8% of a
  layer.
- **v5e-16**: each sample lies on two chips (`context=2`), which halves what it leaves behind for the way back (a
  residual stream in float32 for each block).
- A larger batch is better made by `--gradient_accumulation_steps`: it costs no memory beside the gradients.

## How the cost grows

A step's products are fixed, so time falls with the number of devices and device-seconds stay, until what every
device does alike or what it receives outweighs its share. The column device-s shows where: more chips than that buy
little time for their price. For many videos give each slice its own, not more chips to one.
"""


def row(topology: str, mesh: str | None, size: str) -> list[str]:
    """The cells of one row of the table.

    Args:
      mesh: as `--mesh` takes it; by default the topology's preset.
      size: of `JOBS`.
    """
    where, family = topologies.find(topology), registry.find(registry.DEFAULT)
    settings, machine = sampling_options(family.name, JOBS[size])
    run = SamplingRun(family, family.real_size(), settings, machine, plan.choose_size(family.sizes(settings), size))
    return _cells(plan.plan(where, MeshConfig.read(mesh) if mesh else plan.preset(where), run, ("step",)))


def _cells(made: TopologyPlan) -> list[str]:
    step = next(program for program in made.programs if program.name == "step")
    assert step.limit and step.best, f"{made.topology.name}: has no data sheet"
    return [
        ("~ " if step.estimated else "") + made.topology.name,
        _axes(made) or "one device",
        f"{step.total / GB:.1f} of {step.limit / GB:.1f}",
        "yes" if step.fits else "**no**",
        "" if step.estimated else f"{step.waste:.1%}",
        "" if step.estimated else f"{step.cost.all_received / GB:.2f}",
        step.bound or "",
        f"{_three(1000 * step.best)} ms",
        f"{_three(50 * step.best)} s",
        _three(50 * step.best * made.devices),
    ]


def _axes(made: TopologyPlan) -> str:
    return ", ".join(f"{name}={n}" for name, n in dataclasses.asdict(made.mesh).items() if n > 1)


def _three(value: float) -> str:
    """Three significant digits."""
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"


def update_row(topology: str, strategy: str, mesh: str, batch: int) -> list[str]:
    """The cells of one row of the table of training: see `UPDATES`."""
    family = registry.find(registry.DEFAULT)
    options = training_options(f"train_{strategy}", family.name)
    options = dataclasses.replace(options, optimization=dataclasses.replace(options.optimization, batch_size=batch))
    run = TrainingRun(family, family.real_size(), options, (640, 640))
    return _update_cells(plan.plan(topologies.find(topology), MeshConfig.read(mesh), run))


def _update_cells(made: TopologyPlan) -> list[str]:
    assert isinstance(made.run, TrainingRun)
    assert made.update_seconds, f"{made.topology.name}: has no data sheet"
    gradients, worst = made.programs[0], max(made.programs, key=lambda program: program.total)
    assert worst.limit, f"{made.topology.name}: has no data sheet"
    received = sum(program.cost.all_received for program in made.programs)
    return [
        made.topology.name,
        made.run.strategy,
        _axes(made),
        str(made.run.samples),
        f"{worst.total / GB:.1f} of {worst.limit / GB:.1f}",
        "yes" if made.fits else "**no**",
        f"{gradients.waste:.0%}",
        f"{received / GB:.1f}",
        gradients.bound or "",
        f"{_three(made.update_seconds)} s",
        _three(made.update_seconds * made.devices / made.run.samples),
    ]


def table(rows: list[list[str]], head: list[str] = _HEAD) -> str:
    """As Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def run(options: TableOptions, reporter: Reporter) -> Path:
    """Write the page."""
    path, tables = Path(options.output), ""
    for size in JOBS:
        rows = [row(topology, None, size) for topology in TOPOLOGIES]
        tables += f"## Sampling {size}\n\n{table(rows)}\n"
    updates = table([update_row(*update) for update in UPDATES], _UPDATE_HEAD)
    others = table([row(topology, mesh, "640x640") for topology, mesh in OTHERS])
    versions = dict(jaxlib=importlib.metadata.version("jaxlib"), libtpu=plan.libtpu_version())
    page = _PAGE.format(**versions, tables=tables, others=others, updates=updates)
    path.write_text(page, encoding="utf-8")
    reporter.say(str(path))
    return path
