"""The page docs/tpu.md: what a sampling step and an update of training cost on each topology, compiled for each."""

import dataclasses
import functools
import importlib.metadata
import math
from collections.abc import Callable
from pathlib import Path

from talkverse_jax.core import presets
from talkverse_jax.core.paths import replacing
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.pipeline import registry
from talkverse_jax.plan import plan
from talkverse_jax.plan.compile import Planned
from talkverse_jax.plan.kernels import Dump
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

# Of the other families, by the ends of their presets' names: machines, and programs that are compiled for them.
CLIPS = {
    "480": (("v6e-8", "v6e-16", "v5p-8", "tpu7x-8", "H100-1", "H100-8", "H200-1"), ("step", "decode")),
    "720": (("v6e-8", "v5p-8", "H100-1", "H200-1"), ("step",)),
}

# Updates of training at 640x640, 193 frames: topology, strategy, mesh, batch.
UPDATES = (
    ("v5e-16", "lora", "fsdp=8,context=2", 8),
    ("v5p-8", "lora", "fsdp=4", 4),
    ("v6e-8", "lora", "fsdp=8", 8),
    ("v6e-64", "lora", "fsdp=64", 64),
    ("v5e-16", "full", "fsdp=8,context=2", 8),
    ("v5p-8", "full", "fsdp=4", 4),
    ("v6e-8", "full", "fsdp=8", 8),
    ("v6e-32", "full", "fsdp=32", 32),
    ("v6e-64", "full", "fsdp=64", 64),
)

_UPDATE_HEAD = ["topology", "trained", "mesh", "batch", "GB a device", "fits", "again", "GB received", "bound"]
_UPDATE_HEAD += ["an update", "by schedule", "device-s a sample"]

_CLIP_INTRO = """\
The published model in bfloat16 with the settings of its presets, two speakers, clips of 81 frames; on the meshes that
sampling chooses. The step's own columns are as above; the memory is that of step or decode, whichever takes more."""

_SCHEDULE = ["by schedule", "MFU", "links wait"]

_HEAD = ["topology", "mesh", "GB a device", "fits", "waste", "GB received", "bound", "a step", *_SCHEDULE]
_HEAD += ["50 steps", "device-s"]

_CLIP_HEAD = ["topology", "size", "mesh", "GB a device", "fits", "waste", "GB received", "bound", "a step"]
_CLIP_HEAD += [*_SCHEDULE, "all steps", "decode", "device-s"]

_PAGE = """\
# What fits where

Written by `make plan-table`: the sampling step of the published model (5.7 billion parameters, bfloat16, both
branches of guidance, a clip of 120 frames with motion context) with the meshes that sampling chooses, compiled by
XLA:TPU for machines that we did not have (jaxlib {jaxlib}, libtpu {libtpu}). Rows with `~` are GPUs, estimated from
the model's sizes only. `talkverse-jax plan` does the same for one machine, with every program of a
run; `make test-slow` compiles a row again and compares.

- **GB a device**: weights, inputs and temporaries of the step, together with the VAE's weights, of the memory that the
  compiler can use.
- **waste**: products that are not the model's own (padding, and what several devices all compute).
- **GB received**: what one device receives through collectives in a step.
- **a step**: a step cannot be faster than this: the longest of its products at the data sheet's rate, its memory
  traffic and its links. Nothing here was timed on a TPU.
- **by schedule**: what the step takes by the compiler's own schedule: the bundles of every kernel, times its loops, or
  its bytes through memory where these take longer; and waiting for transfers that nothing hides. **MFU**: the model's
  own products in that time, of the data sheet's rate. **links wait**: the share of it in which a device waits for
  others. On v5p and tpu7x kernels wait for the matrix units without a bundle that says so: there a product counts as
  what the data sheet promises, so that their figures are too good.
- **device-s**: devices x seconds of 50 steps, which is the cost of a clip of 4.8 s.

{tables}
## Which mesh

The same step on other meshes, at 640x640:

{others}
- **Up to eight devices**: each branch of guidance gets half of them (`data=2`), and these share its sequence by heads
  (Ulysses, `context`). There is almost no padding, and few bytes are moved.
- **16 GB a chip (v5e)**: with `fsdp=2` each chip keeps half of the transformer's weights and gathers the rest block by
  block. The step would fit without it, but the VAE's decode must fit too.
- **More devices**: the heads can be shared by 2, 3, 4, 6, 8, 12 or 24 devices; beyond that, use rings of such groups.
- **`tensor`** moves the most bytes and saves little here. **A ring alone** (`ulysses=1`) moves the keys and values of
  all tokens to every device.

{clips}## Training 640x640, 193 frames

One update (`gradients` and `update` of `plan --train`, with `configs/train_lora.toml` and `train_full.toml`): bfloat16
products; float32 parameters, gradients and Adam moments; `remat attention`; ROI loss in `full`; no accumulation.

{updates}
- **GB a device**: the peak, of `gradients` together with Adam's moments, or of `update`.
- **again**: products that are not the model's own (those are three times the forward pass for trained weights and
  twice for others): `remat attention` repeats the forward pass but for self-attention, whose scores are computed once
  more; the gradients of adapters are 8% of a layer.
- **v5e-16**: each sample is split over two chips (`context=2`), which halves what is kept for the backward pass (a
  float32 residual stream for each block).
- For a larger batch use `--gradient_accumulation_steps`: it needs no memory besides the gradients.

## How the cost grows

A step has a fixed amount of work. So with more devices the time falls and device-seconds stay the same, until the work
that every device repeats, or the bytes it receives, outweigh its share. The column device-s shows where that begins:
more chips than that cost more and save little time. To make many videos, give each slice its own videos instead of
giving one video more chips.
"""


def row(topology: str, mesh: str | None, size: str, dump: Dump | None = None) -> list[str]:
    """The cells of one row of the table; those of the schedule are empty without the compiler's dump.

    Args:
      mesh: as `--mesh` takes it; by default the one that sampling chooses.
      size: of `JOBS`.
    """
    where, family = topologies.find(topology), registry.find(registry.DEFAULT)
    settings, machine = sampling_options(family.name, JOBS[size])
    run = SamplingRun(family, family.real_size(), settings, machine, plan.choose_size(family.sizes(settings), size))
    return _cells(
        plan.plan(where, MeshConfig.read(mesh) if mesh else run.default_mesh(where), run, ("step",), dump=dump)
    )


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
        *_schedule_cells(step),
        f"{_three(50 * step.best)} s",
        _three(50 * step.best * made.devices),
    ]


def _schedule_cells(step: Planned) -> list[str]:
    """Time, MFU and waiting for other devices by the compiler's schedule."""
    made = step.schedule
    if made is None:
        return [""] * len(_SCHEDULE)
    return [f"{_three(1000 * made.seconds)} ms", f"{step.mfu:.1%}", f"{made.exposed / made.seconds:.1%}"]


def clip_row(topology: str, preset: str, wanted: tuple[str, ...], dump: Dump | None = None) -> list[str]:
    """The cells of one row of a table of another family: see `CLIPS`."""
    where, family = topologies.find(topology), registry.find(str(presets.read(preset)["family"]))
    settings, machine = sampling_options(family.name, preset)
    run = SamplingRun(family, family.real_size(), settings, machine, family.sizes(settings)[0])
    return _clip_cells(plan.plan(where, run.default_mesh(where), run, wanted, dump=dump))


def _clip_cells(made: TopologyPlan) -> list[str]:
    """As `_cells`, with all steps of a clip and its decode, where that was planned; the memory is the larger one's."""
    assert isinstance(made.run, SamplingRun)
    found = {program.name: program for program in made.programs}
    step, decode, worst = found["step"], found.get("decode"), max(made.programs, key=lambda program: program.total)
    best, steps = step.best, made.run.clip.steps
    assert worst.limit and best and (decode is None or decode.best), f"{made.topology.name}: has no data sheet"
    name, axes, _, _, *counted = _cells(made)
    height, width = made.run.size
    return [
        *(name, f"{width}x{height}", axes, f"{worst.total / GB:.1f} of {worst.limit / GB:.1f}"),
        "yes" if made.fits else "**no**",
        *counted[:3],
        f"{_three(best)} s",
        *_schedule_cells(step),
        f"{_three(steps * best)} s",
        f"{_three(decode.best)} s" if decode and decode.best else "",
        _three(steps * best * made.devices),
    ]


def clip_tables(rows: Callable[[str, str, tuple[str, ...]], list[str]]) -> str:
    """A section for each of the other families that has presets of these names."""
    sections = ""
    for name in registry.names():
        found = {preset: each for end, each in CLIPS.items() if presets.is_preset(preset := f"{name}_{end}")}
        if found:
            made = [rows(topology, preset, programs) for preset, (tops, programs) in found.items() for topology in tops]
            sections += f"## {registry.find(name).title}, a clip\n\n{_CLIP_INTRO}\n\n{table(made, _CLIP_HEAD)}\n"
    return sections


def _axes(made: TopologyPlan) -> str:
    return ", ".join(f"{name}={n}" for name, n in dataclasses.asdict(made.mesh).items() if n > 1)


def _three(value: float) -> str:
    """Three significant digits."""
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"


def update_row(topology: str, strategy: str, mesh: str, batch: int, dump: Dump | None = None) -> list[str]:
    """The cells of one row of the table of training: see `UPDATES`."""
    family = registry.find(registry.DEFAULT)
    options = training_options(f"train_{strategy}", family.name)
    options = dataclasses.replace(options, optimization=dataclasses.replace(options.optimization, batch_size=batch))
    run = TrainingRun(family, family.real_size(), options, (640, 640))
    return _update_cells(plan.plan(topologies.find(topology), MeshConfig.read(mesh), run, dump=dump))


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
        f"{_three(made.scheduled_update)} s" if made.scheduled_update else "",
        _three(made.update_seconds * made.devices / made.run.samples),
    ]


def table(rows: list[list[str]], head: list[str] = _HEAD) -> str:
    """As Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def run(options: TableOptions, reporter: Reporter, dump: Dump) -> Path:
    """Write the page."""
    path, tables = Path(options.output), ""
    for size in JOBS:
        rows = [row(topology, None, size, dump) for topology in TOPOLOGIES]
        tables += f"## Sampling {size}\n\n{table(rows)}\n"
    updates = table([update_row(*update, dump) for update in UPDATES], _UPDATE_HEAD)
    others = table([row(topology, mesh, "640x640", dump) for topology, mesh in OTHERS])
    versions = dict(jaxlib=importlib.metadata.version("jaxlib"), libtpu=plan.libtpu_version())
    page = _PAGE.format(
        **versions,
        tables=tables,
        clips=clip_tables(functools.partial(clip_row, dump=dump)),
        others=others,
        updates=updates,
    )
    with replacing(path) as partial:
        partial.write_text(page, encoding="utf-8")
    reporter.say(str(path))
    return path
