"""Steps that leave out the unguided branch, or the model."""

import jax
import numpy as np
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.diffusion import denoise as loop
from talkverse_jax.families.talkverse.clips import ClipMaker
from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.families.talkverse.model import TalkVerse
from talkverse_jax.families.talkverse.settings import Settings
from talkverse_jax.pipeline.events import Events
from talkverse_jax.pipeline.machine import Machine
from talkverse_jax.plan import plan as tool
from talkverse_jax.plan.sampling import SamplingRun
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.topologies import find
from tests.conftest import CONFIGS
from tests.families.talkverse.test_clips import SETTINGS, clips_of, models, subject_of  # noqa: F401
from tests.families.talkverse.test_model import random_inputs
from tests.families.talkverse.test_sharded_pipeline import layouts_of, two_clips, unsplit_models
from tests.sharded import error, sharded
from tests.tiny import TINY, random_module

SPARING = dict(sample_steps=5, sample_model_every=2, sample_guide_every=2, sample_window=(0.0, 1.0))


def test_a_clip_runs_what_it_is_told_to(models, monkeypatch):  # noqa: F811
    branches, step = [], loop.denoising_step

    def spy(*args, **how):
        branches.append(how["guidance"].branches)
        return step(*args, **how)

    monkeypatch.setattr(loop, "denoising_step", spy)
    clip = next(clips_of(models, num_clips=1, **SPARING))
    assert clip.finite and branches == [2, 0, 1, 0, 2]


@pytest.mark.slow
def test_one_branch_alone_is_the_first_of_two():
    model, inputs = random_module(TalkVerse, TINY), random_inputs(batch=2)
    *given, latents = inputs.values()
    conditions, timestep = jax.jit(model.prepare)(*given), np.array([300.0, 700.0], np.float32)
    both = model.velocity(latents, timestep, conditions)
    alone = model.velocity(latents[:1], timestep[:1], model.first_rows(conditions, 1))
    np.testing.assert_allclose(alone, both[:1], atol=1e-5 * np.abs(both).max())


@pytest.mark.slow
def test_a_video_of_a_pack_is_what_it_is_alone(models):  # noqa: F811
    maker, settings = ClipMaker(*models), Settings(**SETTINGS | SPARING)
    alone = next(clips_of(models, num_clips=1, **SPARING)).frames
    subjects = [subject_of(models, num_clips=1, image=image) for image in (None, np.zeros((128, 128, 3), np.float32))]
    states = [maker.start(subject, settings, Events()) for subject in subjects]
    (_, first, _), (_, second, _) = maker.advance(states, [Events()] * 2)
    np.testing.assert_allclose(first.frames, alone, atol=1e-3)
    assert np.abs(second.frames - alone).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["context=8", "fsdp=2,context=2,tensor=2"])
def test_eight_devices_spare_as_one_does(mesh):
    layouts = layouts_of(mesh)
    split = {name: sharded(model, layouts[name], COMPONENTS[name].axes) for name, model in unsplit_models().items()}
    expected = two_clips(unsplit_models(), False, **SPARING)
    for (found, _), (clip, _) in zip(two_clips(split, False, **SPARING), expected, strict=True):
        assert error(found.latents, clip.latents) < 1e-4


@pytest.mark.parametrize("window", [(0.2,), (0.9, 0.2), (-0.1, 1.0), (0.0, 1.1)])
def test_windows_that_are_none_are_refused(window):
    with pytest.raises(UserError, match="--sample_window .*: give two shares, the first no larger, such as 0.2 0.9"):
        Settings(prompt="", sample_window=window)


def planned(**settings) -> SamplingRun:
    configs = FAMILY.configs_from_toml(CONFIGS / "model_tiny.toml")
    made = Settings(prompt="", size_bucket="tiny-128", infer_frames=8, sample_steps=10, **settings)
    return SamplingRun(FAMILY, configs, made, Machine(dtype="float32"), (128, 128))


def test_the_plan_counts_what_is_spared():
    def times(**settings):
        works = planned(**settings).work
        return {work.name: work.times for work in works if work.name.startswith("step") and work.when == "clip"}

    assert times() == {"step": 10}
    assert times(sample_guide_scale=1.0, sample_guide_every=2) == {"step": 10}
    assert times(sample_model_every=2) == {"step": 6, "step, no model": 4}
    assert times(sample_guide_every=3) == {"step": 5, "step, one branch": 5}
    runs = planned(), planned(sample_guide_every=3)
    assert [run.default_mesh(find("v6e-8")).data for run in runs] == [2, 1]


@pytest.mark.slow
def test_a_step_of_one_branch_is_planned_with_half_of_the_work():
    run = planned(sample_model_every=2, sample_guide_every=2)
    names = tuple(work.name for work in run.work if work.name.startswith("step"))
    assert len(names) == 5
    found = tool.plan(find("cpu"), MeshConfig.parse("context=4,fsdp=2"), run, names)
    flops = {program.name: program.cost.flops for program in found.programs}
    assert flops["step, no model"] < 0.01 * flops["step"]
    assert 0.4 < flops["step, one branch"] / flops["step"] < 0.6
