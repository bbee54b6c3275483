"""What the devices of a TPU exchange in a training step: weights layer by layer, gradients once."""

import dataclasses
import importlib.util

import jax
import pytest

from talkverse_jax.families.talkverse import settings
from talkverse_jax.families.talkverse.components import ModelConfigs
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.plan.hlo_text import HloShape, parse
from talkverse_jax.plan.training import TrainingRun
from talkverse_jax.sharding import topologies
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.training.options import TrainOptions

DIM, FFN, HEADS, DEVICES = 512, 1024, 4, 8
ASKED = dict(weights="", shards="-", unfreeze_strategy="full", batch_size=DEVICES, num_frames=8)
OPTIONS = TrainOptions.build(settings, ASKED, "here")


def small() -> ModelConfigs:
    """The published architecture with six narrow blocks: the pattern BIB three times."""
    configs = FAMILY.real_size()
    trunk = dataclasses.replace(configs.dit.trunk, dim=DIM, ffn_dim=FFN, num_heads=HEADS, num_layers=6, text_len=64)
    return dataclasses.replace(
        configs, dit=dataclasses.replace(configs.dit, trunk=trunk, audio_inject_layers=(0, 2, 4))
    )


def exchanged(program, kind: str) -> tuple[list[HloShape], list[HloShape]]:
    """What goes into collectives of a kind: in the program's own computation, and in those that it calls."""
    entry, called = [], []
    for computation in program.computations.values():
        if computation.name.startswith("all-reduce-scatter") != (kind == "reduce-scatter"):
            continue  # of XLA:TPU's reduce-scatters, which are computations of an all-reduce and a slice
        for instruction in computation.instructions:
            if instruction.opcode.removesuffix("-start") == ("all-reduce" if "reduce" in kind else kind):
                shapes = [computation.by_name[name].shape for name in instruction.operands]
                (entry if computation is program.entry else called).extend(shapes)
    return entry, called


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
def test_weights_are_gathered_layer_by_layer_and_gradients_scattered():
    configs, devices = small(), topologies.devices(topologies.find("v6e-8"))
    mesh = make_mesh(MeshConfig(fsdp=-1), devices, HEADS)
    gradients = TrainingRun(FAMILY, configs, OPTIONS, (128, 128)).programs(mesh)[0].call()
    with jax.default_matmul_precision(OPTIONS.machine.matmul_precision):
        program = parse(gradients.function.lower(*gradients.args, **gradients.static).compile().as_text())
    params, frozen, _ = (gradients.args[0]["dit"], gradients.args[1]["dit"], gradients.args[2])

    # One layer at a time, in the dtype of the products; the modulation of an injection is made in float32.
    once, in_loops = exchanged(program, "all-gather")
    assert all(shape.elements * DEVICES <= DIM * FFN for shape in in_loops)
    wide = [shape for shape in in_loops if shape.dtype != "bf16"]
    assert len(wide) < len(in_loops) / 10 and all(shape.dims[-1] == 2 * DIM for shape in wide)
    # Outside of the loops what stands outside of them, not their whole stacks.
    outside = [x.size for key, x in params.items() if not key.startswith("runs/")]
    outside += [x.size for x in jax.tree.leaves({k: v for k, v in frozen.items() if k != "runs"})]
    assert DEVICES * sum(shape.elements for shape in once) <= sum(outside)

    # Of all kernels of layers the gradients are scattered in 16 bits; only vectors are given to everybody.
    _, scattered = exchanged(program, "reduce-scatter")
    kernels = [x for key, x in params.items() if key.startswith("runs/") and key.endswith("kernel")]
    in_16_bits = [shape for shape in scattered if shape.dtype == "bf16"]
    assert len(in_16_bits) >= 0.9 * len(kernels) and all(shape.elements <= DIM * FFN for shape in in_16_bits)
    _, to_everybody = exchanged(program, "all-reduce")
    assert to_everybody and all(shape.elements <= 6 * DIM for shape in to_everybody)
