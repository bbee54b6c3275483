"""Say before anybody pays for a machine whether a run fits and how long it takes at best.

    talkverse-jax plan --topology v6e-8 --config sample_480
    talkverse-jax plan --topology v6e-8 --train train_lora

A TPU's programs are compiled for it by XLA:TPU, which needs libtpu but no TPU; a GPU's are estimated from the
models' sizes.
"""

import fnmatch
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

import talkverse_jax
from talkverse_jax.core import presets
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import check_apart, write_json
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.media import buckets
from talkverse_jax.ops.names import Products
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.family import Family
from talkverse_jax.pipeline.machine import Machine
from talkverse_jax.plan.compare import compared, read_plans
from talkverse_jax.plan.compile import compile_program
from talkverse_jax.plan.estimate import estimate
from talkverse_jax.plan.kernels import Dump
from talkverse_jax.plan.options import PlanOptions
from talkverse_jax.plan.report import TopologyPlan, report
from talkverse_jax.plan.sampling import SamplingRun, sampling_options
from talkverse_jax.plan.training import TrainingRun, training_options
from talkverse_jax.sharding import topologies
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.topologies import TOPOLOGIES, Topology
from talkverse_jax.weights import store


def run(options: PlanOptions, reporter: Reporter, dump: Dump | None = None) -> list[TopologyPlan]:
    """Plan what the options ask for; say it, and write it where a file was named.

    Args:
      dump: of this process's TPU compiler; without it nothing is said of its schedule.

    Raises:
      UserError: an option cannot be used, or does not fit the topology or the model.
    """
    if options.json:
        names = ("config", "train", "model", "weights", "compare")
        read = [(f"--{name}", value) for name in names if (value := getattr(options, name))]
        check_apart([Path(options.json)], read, "give another --json")
    earlier = read_plans(options.compare) if options.compare else None
    family = _family(options)
    configs = configs_of(family, options.weights, options.model)
    if options.train:
        asked = training_options(options.train, family.name)
        sizes = buckets.sizes(asked.videos.size_bucket)
        planned = TrainingRun(family, configs, asked, choose_size(sizes, options.size))
        mesh = options.mesh or asked.machine.mesh
    else:
        settings, machine = sampling_options(family.name, str(options.config))
        size = choose_size(family.sizes(settings), options.size)
        int8 = int8_of(family, options.weights, options.int8, machine)
        planned = SamplingRun(family, configs, settings, machine, size, int8)
        mesh = options.mesh or machine.mesh
    programs_named(options.programs, [work.name for work in planned.work])  # a misspelt one is told before all else
    plans = []
    for topology in TOPOLOGIES.values() if options.topology == "all" else [topologies.find(options.topology)]:
        chosen = MeshConfig.read(mesh) if mesh else planned.default_mesh(topology)
        plans.append(plan(topology, chosen, planned, options.programs, reporter, dump))
        reporter.say(report(plans[-1]) + "\n")
        if earlier is not None:
            reporter.say(compared(plans[-1].as_json(), earlier) + "\n")
    if options.json:
        versions = {"talkverse_jax": talkverse_jax.__version__, "jax": jax.__version__, "libtpu": libtpu_version()}
        write_json(Path(options.json), {"versions": versions, "plans": [made.as_json() for made in plans]})
    return plans


def plan(
    topology: Topology,
    mesh_config: MeshConfig,
    planned: SamplingRun | TrainingRun,
    wanted: Sequence[str] = (),
    reporter: Reporter | None = None,
    dump: Dump | None = None,
) -> TopologyPlan:
    """Plan a run on a topology.

    Args:
      wanted: shell patterns of programs' names; all without any.

    Raises:
      UserError: the mesh does not fit the topology or the model, or libtpu is missing, or training is to be
        estimated.
    """
    names = programs_named(wanted, [work.name for work in planned.work])
    if topology.generation.platform == "gpu":
        if isinstance(planned, TrainingRun):
            raise UserError(
                f"{topology.name}: training is compiled, not estimated; give a TPU's, or cpu", field="topology"
            )
        sizes = mesh_config.sizes(topology.devices, planned.heads)
        programs = [each for each in estimate(planned, topology, sizes) if each.name in names]
        return TopologyPlan(topology, topology.devices, sizes, planned, tuple(programs))
    devices = topologies.devices(topology)
    mesh, programs = make_mesh(mesh_config, devices, planned.heads), []
    with (
        jax.default_matmul_precision(planned.matmul_precision),
        (reporter or Reporter()).bar(total=len(names), what=f"compiling for {topology.name}", unit="program") as bar,
    ):
        for program in planned.programs(mesh):
            if program.work.name in names:
                programs.append(compile_program(program, topology, len(devices), dump))
                bar.update(1)
    return TopologyPlan(
        topology, len(devices), mesh_config.sizes(len(devices), planned.heads), planned, tuple(programs)
    )


def programs_named(patterns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Which programs are asked for: `step` is that one, `step*` also those of other kinds. All without any.

    Args:
      patterns: shell patterns of names.

    Raises:
      UserError: one fits none.
    """
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise UserError(f"{pattern}: no such program; there are {', '.join(names)}", field="programs")
    return [name for name in names if not patterns or any(fnmatch.fnmatchcase(name, each) for each in patterns)]


def _family(options: PlanOptions) -> Family:
    asked = options.family or presets.read(str(options.config or options.train)).get("family")
    found = registry.family_of(options.weights) if options.weights else None
    if asked and found and asked != found:
        raise UserError(f"{asked}: {options.weights} holds weights of {found}", field="family")
    return registry.find(asked or found or registry.DEFAULT)


def int8_of(family: Family, weights: str | None, asked: bool, machine: Machine) -> Products | None:
    """How the layers compute whose kernels are int8; None: there are none.

    Args:
      weights: a folder that may hold such.
      asked: for them, whatever it holds.
    """
    if machine.int8_products:
        return "int8"
    stored = weights and any(each.int8 and store.is_int8(weights, each) for each in family.components.values())
    return "float" if asked or stored else None


def configs_of(family: Family, weights: str | None, model: str | None) -> Any:
    """The sizes of a folder of weights, of a TOML file, or the published ones."""
    if weights:
        return family.configs_from_weights(weights)
    return family.configs_from_toml(presets.find(model)) if model else family.real_size()


def choose_size(sizes: tuple[tuple[int, int], ...], asked: str | None) -> tuple[int, int]:
    """The size (H, W) to plan for.

    Args:
      sizes: those that a run can have; the first is taken where none is asked for.
      asked: `WIDTHxHEIGHT`.

    Raises:
      UserError: it is none of the sizes.
    """
    shown = {f"{width}x{height}": (height, width) for height, width in sizes}
    return sizes[0] if asked is None else buckets.named_size(shown, asked)


def libtpu_version() -> str | None:
    """The version of the TPU compiler; None where there is none."""
    try:
        return importlib.metadata.version("libtpu")
    except importlib.metadata.PackageNotFoundError:
        return None
