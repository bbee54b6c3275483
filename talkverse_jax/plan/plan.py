"""Say before anybody pays for a machine whether a run fits and how long it takes at best.

    python -m talkverse_jax.plan.plan --topology v6e-8 --config configs/sample_480.toml
    python -m talkverse_jax.plan.plan --topology v6e-8 --train configs/train_lora.toml

A TPU's programs are compiled for it by XLA:TPU, which needs libtpu but no TPU; a GPU's are estimated from the
models' sizes. Exit codes: 0 planned (whether or not it fits), 1 the counts cannot be right, 2 bad input.
"""

import argparse
import importlib.metadata
import sys
from pathlib import Path

import jax

import talkverse_jax
from talkverse_jax.core.config import from_dict, load_toml, read_toml
from talkverse_jax.core.errors import UserError, run_command
from talkverse_jax.cli.flags import CommandParser
from talkverse_jax.core.paths import write_json
from talkverse_jax.families.talkverse.components import ModelConfigs
from talkverse_jax.media.buckets import BUCKETS
from talkverse_jax.plan.compile import Planned, compile_program
from talkverse_jax.plan.estimate import estimate
from talkverse_jax.plan.report import Plan, report
from talkverse_jax.plan.sampling import Job, sampling_programs, sampling_work
from talkverse_jax.plan.training import TrainingJob, make_training_job, training_programs
from talkverse_jax.run.sample_options import SampleOptions
from talkverse_jax.sharding import topologies
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.topologies import TOPOLOGIES, Topology
from talkverse_jax.training.options import TrainOptions

_PRESETS = Path(talkverse_jax.__file__).parent.parent / "configs" / "mesh"

# Of each bucket the size that the documentation speaks of (height, width).
_SIZES = {"fasttalk-480": (640, 640), "fasttalk-720": (704, 1280), "tiny-128": (128, 128)}

# What a run is asked for and a plan does not need.
_NOT_NEEDED = dict(weights="", image="", audio="", prompt="")


def plan(
    topology: Topology,
    mesh_config: MeshConfig,
    configs: ModelConfigs,
    options: SampleOptions | TrainOptions,
    job: Job | TrainingJob,
    wanted: tuple[str, ...] = (),
) -> Plan:
    """Plan a job on a topology: sampling, or training.

    Args:
      wanted: names of programs, or their first words; all without any.

    Raises:
      UserError: the mesh does not fit the topology or the model, or libtpu is missing, or training is to be
        estimated.
    """
    training = isinstance(job, TrainingJob)
    heads = configs.dit.trunk.num_heads
    if topology.generation.platform == "gpu" and training:
        raise UserError(f"--topology {topology.name}: training is compiled, not estimated; give a TPU's, or cpu")
    if topology.generation.platform == "gpu":
        devices = topology.devices
        sizes = mesh_config.sizes(devices, heads)
        programs = [p for p in estimate(configs, options, job, topology, sizes) if _is_wanted(p.name, wanted)]
    else:
        found = topologies.devices(topology)
        devices = len(found)
        mesh = make_mesh(mesh_config, found, heads)
        programs, of_job = [], training_programs if training else sampling_programs
        with jax.default_matmul_precision(options.matmul_precision):
            for program in of_job(configs, options, job, mesh):
                if _is_wanted(program.work.name, wanted):
                    programs.append(_compile(program, topology, devices))
    return Plan(topology, devices, mesh_config.sizes(devices, heads), job, options.dtype, tuple(programs))


def _compile(program, topology: Topology, devices: int) -> Planned:
    _say(f"{topology.name}: compiling {program.work.name} ...")
    planned = compile_program(program, topology, devices)
    _say(f"{topology.name}: compiled {planned.name} in {planned.compile_seconds:.0f} s")
    return planned


def _is_wanted(name: str, wanted: tuple[str, ...]) -> bool:
    return not wanted or any(name == w or name.split()[0] == w for w in wanted)


def load_options(path: str) -> SampleOptions:
    """The options of a `sample.py` config that matter to a plan.

    Raises:
      UserError: the file is none, or an option cannot be used.
    """
    options = from_dict(SampleOptions, _NOT_NEEDED | read_toml(path), path)
    options.clip_settings()
    return options


def load_train_options(path: str) -> TrainOptions:
    """The options of a `train.py` config that matter to a plan.

    Raises:
      UserError: the file is none, or an option cannot be used.
    """
    no_data = dict(weights="", shards="-", dataset_metadata_path=[])
    return from_dict(TrainOptions, read_toml(path) | no_data, path).checked()


def make_job(options: SampleOptions, size: str | None) -> Job:
    """The clip that the options make.

    Args:
      size: `WIDTHxHEIGHT`; by default one of the bucket's.

    Raises:
      UserError: the bucket has no such size.
    """
    height, width = _pixels(options.size_bucket, size)
    return Job(height, width, options.infer_frames, options.sample_steps, options.clip_settings().guided)


def _pixels(bucket: str, size: str | None) -> tuple[int, int]:
    sizes = list(BUCKETS.get(bucket, {}).values())
    if not sizes:
        raise UserError(f"size_bucket {bucket}: no such bucket; there are {', '.join(BUCKETS)}")
    chosen = _SIZES[bucket]
    if size:
        width, _, height = size.partition("x")
        chosen = (int(height), int(width)) if width.isdigit() and height.isdigit() else None
        if chosen not in sizes:
            known = ", ".join(f"{width}x{height}" for height, width in sizes)
            raise UserError(f"--size {size}: {bucket} has {known}")
    return chosen


def preset(topology: Topology) -> MeshConfig:
    """The mesh of `configs/mesh/`.

    Raises:
      UserError: there is no file for the topology.
    """
    return load_toml(MeshConfig, _PRESETS / f"{topology.name}.toml")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def libtpu_version() -> str | None:
    """The version of the TPU compiler; None where there is none."""
    try:
        return importlib.metadata.version("libtpu")
    except importlib.metadata.PackageNotFoundError:
        return None


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m talkverse_jax.plan.plan",
        description="Compile a run for a machine that is not there: what fits, and how long it takes at best.",
    )
    parser.add_argument("--topology", required=True, metavar="NAME", help=f"{', '.join(TOPOLOGIES)}, or all")
    run = parser.add_mutually_exclusive_group(required=True)
    run.add_argument("--config", metavar="FILE", help="TOML file of sample.py's options")
    run.add_argument("--train", metavar="FILE", help="TOML file of train.py's options")
    parser.add_argument(
        "--mesh",
        metavar="AXES",
        help="as sample.py and train.py take it (default: configs/mesh/<topology>.toml; of training fsdp=-1)",
    )
    parser.add_argument("--size", metavar="WxH", help="pixels (default: 640x640 or 1280x704, by the bucket)")
    parser.add_argument("--programs", nargs="+", metavar="NAME", default=(), help="only these, such as step decode")
    parser.add_argument("--model", metavar="FILE", help="TOML file of the models' sizes (default: the real ones)")
    parser.add_argument("--json", metavar="FILE", help="write everything there too")
    return parser


def main() -> None:
    args = _parser().parse_args()
    if args.json and not Path(args.json).resolve().parent.is_dir():
        raise UserError(f"--json {args.json}: there is no such folder; make it or give another path")
    configs = ModelConfigs.from_toml(args.model) if args.model else ModelConfigs.real_size()
    if args.train:
        options = load_train_options(args.train)
        job = make_training_job(configs, options, *_pixels(options.size_bucket, args.size))
        known = ["gradients", "update"]
    else:
        options = load_options(args.config)
        job = make_job(options, args.size)
        known = [work.name for work in sampling_work(configs, options, job)]
    for name in args.programs:
        if not any(_is_wanted(k, (name,)) for k in known):
            raise UserError(f"--programs {name}: no such program; there are {', '.join(known)}")
    # The same program has the same hash in any checkout.
    jax.config.update("jax_hlo_source_file_canonicalization_regex", ".*/")
    chosen = list(TOPOLOGIES.values()) if args.topology == "all" else [topologies.find(args.topology)]
    plans = []
    for topology in chosen:
        asked = args.mesh or options.mesh
        default = MeshConfig(fsdp=-1) if args.train else preset(topology)
        mesh_config = MeshConfig.read(asked) if asked else default
        plans.append(plan(topology, mesh_config, configs, options, job, tuple(args.programs)))
        print(report(plans[-1]), end="\n\n", flush=True)
    if args.json:
        versions = {"talkverse_jax": talkverse_jax.__version__, "jax": jax.__version__, "libtpu": libtpu_version()}
        write_json(Path(args.json), {"versions": versions, "plans": [made.as_json() for made in plans]})
    sys.exit(1 if any(made.faults for made in plans) else 0)


if __name__ == "__main__":
    # What was compiled for devices that are not there cannot be read back.
    jax.config.update("jax_enable_compilation_cache", False)
    run_command(main)
