"""A denoising step beside MaxDiffusion's, both by the compiler's own schedule: no TPU is needed.

    python benchmarks/tpu_maxdiffusion.py --clone CLONE [--topology v6e-1] [--size 5b] [--attention ulysses_custom]

Their Wan transformer has our widths, blocks, number of tokens and text, both branches of guidance, and bfloat16; both
are compiled for the same chips by the same libtpu, and read as `talkverse-jax plan` reads. Theirs is what their
pipeline calls in a step, with keys and values of the text and turns of positions made before. Ours is the program that
sampling runs: attention to sound after 11 blocks, two timesteps in one sequence and the solver are in it besides.

It runs where this package, libtpu and what MaxDiffusion's transformer imports are installed: aqtp, chex, diffusers'
dependencies, google-cloud-storage, qwix, tensorboardx, tokamax and torch.
"""

import argparse
import dataclasses
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import yaml
from flax import linen, nnx
from flax.linen import partitioning
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from talkverse_jax.cli.command import run_command
from talkverse_jax.cli.plan import compiler_dump
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import write_json
from talkverse_jax.families.talkverse.flops import clip_tokens
from talkverse_jax.models.wan.config import WanConfig
from talkverse_jax.models.wan.flops import block_flops, ends_flops
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.programs import Call, Program, Work, shard_bytes
from talkverse_jax.plan.compile import Planned, compile_program
from talkverse_jax.plan.kernels import Dump
from talkverse_jax.plan.report import GB
from talkverse_jax.plan.sampling import SamplingRun, sampling_options
from talkverse_jax.sharding import topologies
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.topologies import Topology

PIXELS = (640, 640)
SIZES = {"5b": {}, "1.3b": {"dim": 1536, "ffn_dim": 8960, "num_heads": 12}}
VMEM = 100 * 2**20
# What their README sets so that all-to-alls go on beside products. (Its flags that spread other collectives over
# products, libtpu 0.0.52 refuses on a v6e.)
COMPILER = {"xla_tpu_enable_async_all_to_all": True, "xla_tpu_overlap_compute_collective_tc": True}
FLOAT32 = ("norm", "condition_embedder", "scale_shift_table")  # parameters that their pipeline keeps so


def our_run(size: str) -> SamplingRun:
    """Ours: the published model, or one of other widths."""
    family = registry.find("talkverse")
    configs = family.real_size()
    trunk = dataclasses.replace(configs.dit.trunk, **SIZES[size])
    configs = dataclasses.replace(configs, dit=dataclasses.replace(configs.dit, trunk=trunk))
    settings, machine = sampling_options("talkverse", "sample_480")
    return SamplingRun(family, configs, settings, machine, PIXELS)


def our_step(run: SamplingRun, topology: Topology, dump: Dump) -> Planned:
    devices = topologies.devices(topology)
    mesh = make_mesh(run.default_mesh(topology), devices, run.heads)
    with jax.default_matmul_precision(run.matmul_precision):
        (step,) = (program for program in run.programs(mesh) if program.work.name == "step")
        return compile_program(step, topology, len(devices), dump)


def tokens_of(run: SamplingRun) -> int:
    """Of a clip, in one branch of guidance."""
    dit, vae = run.configs.dit, run.configs.vae
    h, w = (n // vae.space_stride for n in run.size)
    return clip_tokens(dit, dit.latent_frames(run.settings.infer_frames), h, w, motion=True)[1]


def their_step(
    trunk: WanConfig, tokens: int, topology: Topology, attention: str, blocks: Sequence[int], data: int, dump: Dump
) -> Planned:
    """Theirs.

    Args:
      attention, blocks: their kernel, and its blocks of queries, of keys, and of keys at once.
      data: devices that share the branches of guidance; the others share the sequence.
    """
    devices = topologies.devices(topology)
    shape = (data, 1, len(devices) // data, 1)
    mesh = Mesh(mesh_utils.create_device_mesh(shape, devices), ("data", "fsdp", "context", "tensor"))
    call, weights = their_call(trunk, tokens, mesh, attention, blocks)
    own = trunk.num_layers * block_flops(trunk, tokens, trunk.text_len) + ends_flops(trunk, tokens)
    work = Work(f"MaxDiffusion, {attention}", 2 * own, times=1, when="clip", component="dit")
    return compile_program(Program(work, lambda: call, weights, {}), topology, len(devices), dump)


def their_call(trunk: WanConfig, tokens: int, mesh: Mesh, attention: str, blocks: Sequence[int]) -> tuple[Call, int]:
    """What to compile, and the bytes of its weights on a device."""
    try:
        from maxdiffusion import common_types, max_utils
        from maxdiffusion.models.wan.transformers.transformer_wan import WanModel
    except ImportError as error:
        raise UserError(f"MaxDiffusion cannot be imported: {error}; install what it needs", field="clone") from None
    found = Path(common_types.__file__).parent / "configs" / "base_wan_1_3b.yml"
    config = yaml.safe_load(found.read_text(encoding="utf-8"))
    ulysses = "ulysses" in attention
    rules = common_types.ULYSSES_ATTENTION_AXIS_RULES if ulysses else common_types.SEQUENCE_PARALLEL_AXIS_RULES
    rules = [*rules, *config["logical_axis_rules"], ["activation_kv_length", "context"]]
    rules = [(name, tuple(axes) if isinstance(axes, list) else axes) for name, axes in rules]
    limit = VMEM if "custom" in attention else None
    sizes = max_utils.flash_block_sizes_for_candidate({}, attention, *blocks, vmem_limit_bytes=limit)
    make = functools.partial(
        WanModel,
        num_attention_heads=trunk.num_heads,
        attention_head_dim=trunk.head_dim,
        in_channels=trunk.in_channels,
        out_channels=trunk.out_channels,
        text_dim=trunk.text_dim,
        freq_dim=trunk.freq_dim,
        ffn_dim=trunk.ffn_dim,
        num_layers=trunk.num_layers,
        eps=trunk.eps,
        mesh=mesh,
        dtype=jnp.bfloat16,
        weights_dtype=jnp.bfloat16,
        attention=attention,
        flash_min_seq_length=0,
        flash_block_sizes=max_utils.get_flash_block_sizes(
            SimpleNamespace(attention=attention, flash_block_sizes=sizes)
        ),
        mask_padding_tokens=False,
        attention_config={"use_base2_exp": True, "use_experimental_scheduler": True},
    )

    def place(x: Any, *axes: str | None) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, PartitionSpec(*axes)))

    def weight(path: Any, x: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
        wide = any(word in jax.tree_util.keystr(path) for word in FLOAT32)
        return jax.ShapeDtypeStruct(x.shape, jnp.float32 if wide else jnp.bfloat16, sharding=sharding)

    with mesh, partitioning.axis_rules(rules):
        graph, state, rest = nnx.split(nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0))), nnx.Param, ...)
        places = linen.logical_to_mesh_sharding(nnx.get_partition_spec(state), mesh, rules)
        state, rest = jax.tree_util.tree_map_with_path(weight, state, places), jax.tree.map(place, rest)
        frames, height, width = grid_of(tokens)
        latents = jax.ShapeDtypeStruct((2, trunk.in_channels, frames, 2 * height, 2 * width), jnp.bfloat16)
        text = jax.ShapeDtypeStruct((2, trunk.text_len, trunk.text_dim), jnp.bfloat16)

        def before(state: Any, rest: Any, latents: Any, text: Any) -> tuple[Any, Any]:
            model = nnx.merge(graph, state, rest)
            return model.compute_kv_cache(text)[0], model.rope(jnp.transpose(latents, (0, 2, 3, 4, 1)))

        kept, turns = jax.eval_shape(before, state, rest, latents, text)

    def step(state: Any, rest: Any, latents: Any, timestep: Any, text: Any, kept: Any, turns: Any) -> Any:
        with mesh, partitioning.axis_rules(rules):
            found = nnx.merge(graph, state, rest)(latents, timestep, text, kv_cache=kept, rotary_emb=turns)
        conditional, without = jnp.split(found, 2)
        return without + 4.5 * (conditional - without)

    timestep = place(jax.ShapeDtypeStruct((2,), jnp.int32), "data")
    kept = jax.tree.map(lambda x: place(x, None, "data"), kept)
    arrays = (state, rest, place(latents, "data"), timestep, place(text, "data"), kept, place(turns))
    weights = sum(shard_bytes(x) for x in jax.tree.leaves((state, rest)))
    return Call(jax.jit(step, compiler_options=COMPILER), arrays), weights


def grid_of(tokens: int) -> tuple[int, int, int]:
    """Frames, rows and columns of so many tokens, as near to a cube as can be."""
    parts = [n for n in range(1, tokens + 1) if tokens % n == 0]
    grids = ((f, h, tokens // f // h) for f in parts for h in parts if tokens // f % h == 0)
    return min(grids, key=lambda grid: (max(grid), grid))


def figures(made: Planned) -> dict[str, float | None]:
    """What is compared."""
    table = made.schedule
    assert table is not None, "there was a dump"
    return {
        "schedule_ms": 1e3 * table.seconds,
        "mfu": made.mfu,
        "hbm_gb": made.cost.memory / GB,
        "links_wait_ms": 1e3 * table.exposed,
        "memory_gb": made.total / GB,
        "compile_s": made.compile_seconds,
    }


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clone", required=True, help="a checkout of MaxDiffusion")
    parser.add_argument("--topology", default="v6e-1", help="as of talkverse-jax plan")
    parser.add_argument("--size", default="5b", choices=SIZES, help="widths of both transformers")
    parser.add_argument("--attention", default="ulysses_custom", help="their kernel")
    parser.add_argument("--blocks", default="3328,1024,1024", help="of its queries, of keys, of keys at once")
    parser.add_argument("--data", type=int, default=1, help="devices that share their branches of guidance")
    parser.add_argument("--json", help="a file for the figures")
    options = parser.parse_args(argv)
    source = Path(options.clone) / "src"
    if not source.is_dir():
        raise UserError(f"--clone {options.clone}: is no checkout of MaxDiffusion", field="clone")
    sys.path.insert(0, str(source))
    topology, run = topologies.find(options.topology), our_run(options.size)
    blocks = [int(size) for size in options.blocks.split(",")]
    with compiler_dump() as dump:
        theirs = their_step(
            run.configs.dit.trunk, tokens_of(run), topology, options.attention, blocks, options.data, dump
        )
        found = {"theirs": figures(theirs), "ours": figures(our_step(run, topology, dump))}
    for whose, made in found.items():
        print(whose, "  ".join(f"{name} {value:.3f}" for name, value in made.items() if value is not None))
    ours, other = (found[whose]["schedule_ms"] for whose in ("ours", "theirs"))
    print(f"ours / theirs {(ours or 0) / (other or 1):.3f}")
    if options.json:
        write_json(Path(options.json), vars(options) | found)


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
