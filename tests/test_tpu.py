"""The program of every step, compiled for TPUs that need not be there: libtpu is all that XLA:TPU needs."""

import dataclasses
import functools
import importlib.util

import pytest

from talkverse_jax.families.talkverse.components import ModelConfigs
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.plan import plan, table_rows
from talkverse_jax.plan.sampling import SamplingRun, sampling_options
from talkverse_jax.plan.table_cases import cases
from talkverse_jax.sharding import topologies
from talkverse_jax.sharding.mesh_config import MeshConfig
from tests.conftest import CONFIGS

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
slow = pytest.mark.slow
TOKENS = {(640, 640): 13_000, (704, 1280): 28_580}


def four_blocks() -> ModelConfigs:
    """The published widths, four blocks and two audio injections."""
    configs: ModelConfigs = FAMILY.real_size()
    trunk = dataclasses.replace(configs.dit.trunk, num_layers=4)
    return dataclasses.replace(configs, dit=dataclasses.replace(configs.dit, trunk=trunk, audio_inject_layers=(0, 2)))


@functools.cache
def step(topology: str, mesh: str | None, size: str, whole: bool):
    """The planned sampling step with motion tokens."""
    settings, machine = sampling_options(FAMILY.name, "sample_480" if size == "640x640" else "sample_720")
    where, configs = topologies.find(topology), FAMILY.real_size() if whole else four_blocks()
    run = SamplingRun(FAMILY, configs, settings, machine, plan.choose_size(FAMILY.sizes(settings), size))
    made = plan.plan(where, MeshConfig.parse(mesh) if mesh else run.default_mesh(where), run, wanted=("step",))
    return made, next(program for program in made.programs if program.name == "step")


def check(topology: str, mesh: str, size: str, blocks: int) -> None:
    """Fits, computes little beside the model, and receives what the formula of its context parallelism says."""
    made, program = step(topology, mesh, size, blocks == 30)
    print(made.sentence(), f"; waste {program.waste:.1%}, compiled in {program.compile_seconds:.0f} s")
    assert program.fits and not program.faults
    assert program.waste <= 0.05

    sizes = made.mesh
    parts, tokens = sizes.ring * sizes.ulysses, TOKENS[made.run.size]
    part = 2 / sizes.data * -(-tokens // parts) * 3072 * 2  # bytes of q, k, v or the result on a device
    ulysses = 4 * part * (sizes.ulysses - 1) / sizes.ulysses
    # After Ulysses a device has as many more tokens of as many fewer heads: a block of the ring is as large.
    ring = 2 * part * (sizes.ring - 1)
    assert abs(program.cost.all_received / (blocks * (ulysses + ring)) - 1) < 0.10


@needs_libtpu
@slow
def test_four_blocks_for_eight_chips():
    check("v6e-8", "data=2,context=4", "640x640", blocks=4)


@needs_libtpu
@slow
@pytest.mark.parametrize("size", ["640x640", "1280x704"])
@pytest.mark.parametrize("topology", ["v5e-8", "v6e-8", "v5p-8"])
def test_the_published_model(topology, size):
    check(topology, "data=2,context=-1", size, blocks=30)
    assert step(topology, "data=2,context=-1", size, True)[1].compile_seconds <= 180


@needs_libtpu
@slow
@pytest.mark.parametrize("mesh", ["data=2,context=4,ulysses=1", "data=2,context=4,ulysses=2"])
def test_the_published_model_in_a_ring(mesh):
    check("v6e-8", mesh, "640x640", blocks=30)


@needs_libtpu
@slow
def test_four_small_chips_hold_it_by_their_preset():
    _, program = step("v5e-4", None, "640x640", True)
    assert program.fits and program.limit < 17e9


@needs_libtpu
@slow
@pytest.mark.parametrize("key", ["v6e-8 sample_480", "v6e-8 multitalk_720", "v6e-8 train_full fsdp=8 batch=8"])
def test_a_row_of_the_documentation_is_made_again(key):
    """Without its schedule, which this process cannot tell."""
    kept = table_rows.read(CONFIGS.parent / "docs" / "tpu.json")[key]
    if not any(program.schedule_ms for program in kept.programs.values()):
        pytest.skip(
            f"this row of docs/tpu.json is older than its schedule; run talkverse-jax plan-table --only {key!r}"
        )
    made = table_rows.make(next(case for case in cases() if case.key == key))
    assert (made.mesh, made.size, made.count, list(made.programs)) == (
        kept.mesh,
        kept.size,
        kept.count,
        [*kept.programs],
    )
    for name, program in made.programs.items():
        for figure in ("memory_gb", "bound_ms", "received_gb", "hbm_gb"):
            assert getattr(program, figure) == pytest.approx(getattr(kept.programs[name], figure), rel=0.05), figure


def test_one_card_of_80_gb_holds_it_at_1280x704():
    made, program = step("H100-1", None, "1280x704", True)
    assert made.fits and program.estimated
    row = table_rows.row_of(made)
    assert row.libtpu is None and row.programs["step"].waste is None and row.programs["step"].bound_ms > 1000
