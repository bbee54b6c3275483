"""The programs of a clip: what they ask for, and the 14B's widths compiled for a TPU."""

import dataclasses
import importlib.util

import pytest

from talkverse_jax.families.multitalk.family import FAMILY
from talkverse_jax.families.multitalk.settings import Settings
from talkverse_jax.pipeline.machine import Machine
from talkverse_jax.plan import plan
from talkverse_jax.plan.sampling import SamplingRun
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.topologies import find
from tests.families.multitalk.tiny import TINY

SIZE = (64, 64)


def run(configs=TINY, int8=None, machine=None, **settings) -> SamplingRun:
    made = Settings(**dict(prompt="", size_bucket="multitalk-tiny", frame_num=13, motion_frame=5) | settings)
    return SamplingRun(FAMILY, configs, made, machine or Machine(), SIZE, int8)


def test_branches_and_shortcuts_are_counted():
    plain, alone, cached = run(), run(sample_text_guide_scale=1.0), run(use_teacache=True)
    assert (plain.clip.branches, alone.clip.branches) == (3, 2)
    work = {each.name: each for each in plain.work}
    assert {each.name: each for each in alone.work}["step"].flops * 3 == work["step"].flops * 2
    [skipped] = [each for each in cached.work if each.name not in work]
    assert skipped.name == "skipped step" and skipped.flops < work["step"].flops / 3
    spared = run(sample_model_every=2, sample_guide_every=2, sample_steps=10)
    found = {each.name: each for each in spared.work}
    assert {name: found[name].times for name in found if name.startswith("step")} == {
        "step": 4, "step, one branch": 2, "step, no model": 4
    }  # fmt: skip
    assert found["step, one branch"].flops * 3 == work["step"].flops and spared.clip.fewest == 1


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["multitalk", "infinitetalk"])
def test_every_program_compiles_and_all_products_are_found(recipe):
    configs = dataclasses.replace(TINY, dit=dataclasses.replace(TINY.dit, recipe=recipe))
    made = plan.plan(
        find("cpu"), MeshConfig.parse("data=1,context=4,fsdp=2"), run(configs, use_teacache=True, use_apg=True)
    )
    assert made.faults == [] and len(made.programs) == 8
    sparing = run(configs, sample_model_every=2, sample_guide_every=2, use_apg=True)
    steps = tuple(each.name for each in sparing.work if each.name.startswith("step"))
    made = plan.plan(find("cpu"), MeshConfig.parse("data=1,context=4,fsdp=2"), sparing, steps)
    assert made.faults == [] and len(made.programs) == 3


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
@pytest.mark.parametrize("resident, int8", [(None, None), (1, None), (0, "float"), (1, "int8")])
def test_blocks_of_the_published_width_compile_for_a_tpu(resident, int8):
    """Those in host memory leave the device room."""
    real = FAMILY.real_size()
    dit = dataclasses.replace(real.dit, trunk=dataclasses.replace(real.dit.trunk, num_layers=4))
    machine = Machine(resident_blocks=resident, int8_products=int8 == "int8")
    asked = run(dataclasses.replace(real, dit=dit), int8, machine)
    step = next(each for each in plan.plan(find("v6e-1"), MeshConfig(), asked, ("step",)).programs)
    assert step.fits and not step.faults
    blocks = 4 if resident is None else resident
    assert step.weights / 1e9 == pytest.approx(0.63 + blocks * (0.464 if int8 else 0.928), abs=0.04)
