"""The page docs/tpu.md: tables of the rows, and what a reader needs to know of them."""

import collections
import math
from collections.abc import Callable, Mapping

from talkverse_jax.pipeline import registry
from talkverse_jax.plan.table_cases import BESIDE, SAMPLING, Case, cases
from talkverse_jax.plan.table_rows import Figures, TableRow

Line = dict[str, str]  # of a table: what stands in each column

_CLIP_INTRO = """\
The published model in bfloat16 with the settings of its presets, two speakers, clips of 81 frames; on the meshes that
sampling chooses. The step's own columns are as above; the memory is that of step or decode, whichever takes more."""

_BESIDE_INTRO = """\
The other programs of a clip of 120 frames, 640x640, with the preset `good`: `prepare` before the steps, `decode` behind
them (bfloat16, behind 4 of the 19 latents of the motion context), and `encode` of the last 73 frames (float32) for the
next clip. **at best** is what **a step** is above; **GB of HBM** are read from and written to a device's main memory;
**compiled in** is time of the processor."""

_PAGE = """\
# What fits where

Written by `make plan-table` from [tpu.json](tpu.json): the sampling step of the published model (5.7 billion
parameters, bfloat16, both branches of guidance, a clip of 120 frames with motion context) with the meshes that sampling
chooses, compiled by XLA:TPU for machines that we did not have (jaxlib {jaxlib}, libtpu {libtpu}, unless the row says
otherwise). Rows with `~` are GPUs, estimated from the model's sizes only. `talkverse-jax plan` does the same for one
machine, with every program of a run. `talkverse-jax plan-table docs/tpu.md --only v6e` makes rows anew, here those of
v6e, and leaves the others; `make test-slow` makes some rows again and compares.

- **GB a device**: weights, inputs and temporaries of the step, together with the VAE's weights, of the memory that the
  compiler can use.
- **waste**: products that are not the model's own (padding, and what several devices all compute).
- **GB received**: what one device receives through collectives in a step.
- **a step**: a step cannot be faster than this: the longest of its products at the data sheet's rate, its memory
  traffic and its links. Nothing here was timed on a TPU.
- **by schedule**: what the step takes by the compiler's own schedule: the bundles of every kernel, times its loops, or
  its bytes through memory where these take longer; and waiting for transfers that nothing hides. **MFU**: the model's
  own products in that time, of the data sheet's rate. **links wait**: the share of it in which a device waits for
  others. On v5e, v5p and tpu7x kernels wait for the matrix units without a bundle that says so: there a product counts
  as what the data sheet promises, so that their figures are too good.
- **all steps**: the 50 of a clip of 4.8 s, at best. **device-s**: devices x seconds of these, which is what
  a clip costs.
- **made**: the day. A TPU's row without a time by schedule is older than that column, as is the program it is about.

{tables}
{beside}## Which mesh

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


def page_of(rows: Mapping[str, TableRow]) -> str:
    """The page; a row that was never made is not on it."""
    found = [(case, rows[case.key]) for case in cases() if case.key in rows]
    compilers = collections.Counter((row.jaxlib, row.libtpu) for _, row in found if row.libtpu)
    jaxlib, libtpu = usual = compilers.most_common(1)[0][0] if compilers else (None, None)

    def table(wanted: Callable[[Case], bool], lines: Callable[[Case, TableRow], Line | list[Line]]) -> str:
        told = [(lines(case, row), {"made": _made(row, usual)}) for case, row in found if wanted(case)]
        return markdown([line | made for some, made in told for line in (some if isinstance(some, list) else [some])])

    sampling = clips = ""
    for config, size in SAMPLING.items():
        made = table(lambda case, config=config: case.config == config and not case.mesh, _of_sampling)
        sampling += f"## Sampling {size}\n\n{made}\n"
    for name in registry.names():
        made = table(lambda case, name=name: case.config.startswith(f"{name}_"), _of_sampling)
        if made:
            clips += f"## {registry.find(name).title}, a clip\n\n{_CLIP_INTRO}\n\n{made}\n"
    beside = table(lambda case: case.config == BESIDE, _of_programs)
    return _PAGE.format(
        jaxlib=jaxlib,
        libtpu=libtpu,
        tables=sampling,
        beside=f"## Beside the steps\n\n{_BESIDE_INTRO}\n\n{beside}\n" if beside else "",
        clips=clips,
        others=table(lambda case: case.config in SAMPLING and bool(case.mesh), _of_sampling),
        updates=table(lambda case: case.batch is not None, _of_update),
    )


def markdown(rows: list[dict[str, str]]) -> str:
    """A table of rows, each by the names of its columns; a column in which all are empty is left out."""
    head = [name for name in rows[0] if any(row[name] for row in rows)] if rows else []
    lines = [head, ["---"] * len(head), *([row[name] for name in head] for row in rows)] if rows else []
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _of_sampling(case: Case, row: TableRow) -> dict[str, str]:
    step, decode = row.programs["step"], row.programs.get("decode")
    steps_ms = row.count * step.bound_ms
    return {
        "topology": _name(case, row),
        "size": "" if case.config in SAMPLING else row.size,
        "mesh": row.mesh,
        **_memory(row),
        "waste": "" if step.waste is None else f"{step.waste:.1%}",
        "GB received": "" if step.received_gb is None else f"{step.received_gb:.2f}",
        "bound": step.bound or "",
        "a step": _time(step.bound_ms),
        **_schedule(step),
        "all steps": _time(steps_ms),
        "decode": _time(decode.bound_ms) if decode else "",
        "decode by schedule": _time(decode.schedule_ms) if decode else "",
        "device-s": _three(steps_ms / 1e3 * row.devices),
    }


def _of_programs(case: Case, row: TableRow) -> list[Line]:
    """A line for each program."""
    return [
        {
            "topology": _name(case, row),
            "mesh": row.mesh,
            "program": name,
            "GB a device": f"{made.memory_gb:.1f} of {made.limit_gb:.1f}",
            "bound": made.bound or "",
            "at best": _time(made.bound_ms),
            **_schedule(made),
            "GB of HBM": "" if made.hbm_gb is None else f"{made.hbm_gb:.1f}",
            "GB received": "" if made.received_gb is None else f"{made.received_gb:.2f}",
            "compiled in": "" if made.compile_seconds is None else f"{made.compile_seconds:.0f} s",
        }
        for name, made in row.programs.items()
    ]


def _of_update(case: Case, row: TableRow) -> dict[str, str]:
    update = row.programs["update"]
    return {
        "topology": _name(case, row),
        "trained": case.config.removeprefix("train_"),
        "mesh": row.mesh,
        "batch": str(row.count),
        **_memory(row),
        "again": "" if update.waste is None else f"{update.waste:.0%}",
        "GB received": "" if update.received_gb is None else f"{update.received_gb:.1f}",
        "bound": update.bound or "",
        "an update": _time(update.bound_ms),
        **_schedule(update),
        "device-s a sample": _three(update.bound_ms / 1e3 * row.devices / row.count),
    }


def _name(case: Case, row: TableRow) -> str:
    return case.topology if row.libtpu else f"~ {case.topology}"


def _memory(row: TableRow) -> dict[str, str]:
    """Of the program that takes the most."""
    worst = max(row.programs.values(), key=lambda program: program.memory_gb)
    fits = all(program.fits for program in row.programs.values())
    return {"GB a device": f"{worst.memory_gb:.1f} of {worst.limit_gb:.1f}", "fits": "yes" if fits else "**no**"}


def _schedule(program: Figures) -> dict[str, str]:
    """Time, MFU and waiting for other devices by the compiler's schedule."""
    time, waits = program.schedule_ms, program.exposed_ms
    return {
        "by schedule": _time(time),
        "MFU": "" if program.mfu is None else f"{program.mfu:.1%}",
        "links wait": "" if time is None or waits is None else f"{waits / time:.1%}",
    }


def _made(row: TableRow, usual: tuple[str | None, str | None]) -> str:
    """The day, and what is not as in most rows."""
    found = (("jaxlib", row.jaxlib, usual[0]), ("libtpu", row.libtpu, usual[1]))
    other = [f"{name} {version}" for name, version, known in found if version and version != known]
    return ", ".join(filter(None, (row.made, *other, row.note)))


def _time(ms: float | None) -> str:
    if ms is None:
        return ""
    return f"{_three(ms)} ms" if ms < 1000 else f"{_three(ms / 1000)} s"


def _three(value: float) -> str:
    """Three significant digits."""
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"
