"""A distillation from beginning to end: who learns, what is kept and shown, stops, devices."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.families.talkverse import settings as family_settings
from talkverse_jax.run.worker import make_video
from talkverse_jax.training import loop
from talkverse_jax.training.objective import objective_of, phase_flops
from talkverse_jax.training.options import TrainOptions
from talkverse_jax.weights.safetensors_io import read_file
from tests.processes import ROOT
from tests.sharded import error
from tests.training import runs

STEPS, FAMILY = 6, runs.FAMILY


class Told(Reporter):
    def __init__(self):
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> runs.Place:
    return runs.make(tmp_path_factory.mktemp("runs"))


def options(place: runs.Place, output: Path, **changes) -> TrainOptions:
    """Two updates of the critic for one of the student, over one or two clips of 8 frames."""
    given = dict(objective="distil", num_frames=16, clip_frames=8, critic_updates=2, critic_learning_rate=1e-3)
    given |= dict(unfreeze_strategy="lora", max_steps=STEPS, save_steps=4, keep_checkpoints=9, ema_decay=0.5)
    return place.options(output, **given | changes)


@pytest.fixture(scope="module")
def straight(place, tmp_path_factory) -> tuple[Path, list[str]]:
    """Six updates without a stop, and what was said."""
    output, told = tmp_path_factory.mktemp("straight"), Told()
    loop.train(options(place, output), told)
    return output, told.lines


@pytest.mark.slow
def test_student_and_critic_take_turns(straight):
    output, said = straight
    four, six = (runs.saved(output, step) for step in (4, 6))
    assert (int(six["critic/step"]), int(six["generator/step"])) == (4, 2)
    assert {name.split("/")[0] for name in six} == {"critic", "generator"}  # the teacher is not kept
    assert not any(name.startswith("critic/ema") for name in six)
    moved = [name for name in six if "/params/" in name and not np.array_equal(six[name], four[name])]
    assert {name.split("/")[0] for name in moved} == {"critic", "generator"} and len(moved) > 50
    lines = list(map(json.loads, (output / "metrics.jsonl").read_text().splitlines()))
    assert ["critic/loss" in line for line in lines] == [True, True, False] * 2
    assert ["loss" in line for line in lines] == [False, False, True] * 2
    assert {"critic/gradient_norm/lora", "critic/learning_rate/rest"} <= lines[0].keys()
    assert all(np.isfinite(value) for line in lines for value in line.values())
    assert sum("for the critic" in line for line in said) == sum("for the generator" in line for line in said) == 1


@pytest.mark.slow
def test_it_goes_on_within_a_round_bit_for_bit(place, straight, tmp_path):
    loop.train(options(place, tmp_path, max_steps=4))
    told = Told()
    loop.train(options(place, tmp_path), told)
    assert any("goes on from step 4" in line for line in told.lines)
    ours, reference = runs.saved(tmp_path, STEPS), runs.saved(straight[0], STEPS)
    assert [name for name in reference if not np.array_equal(ours[name], reference[name])] == []
    lines = [(path / "metrics.jsonl").read_text().splitlines() for path in (tmp_path, straight[0])]
    of = lambda line: {k: v for k, v in json.loads(line).items() if "loss" in k or "norm" in k}  # noqa: E731
    assert [*map(of, lines[0])] == [*map(of, lines[1])]


@pytest.mark.slow
def test_what_is_exported_is_the_student_s_average(place, straight, tmp_path):
    output, target = straight[0], tmp_path / "student.safetensors"
    tensors = read_file(output / "step-6.safetensors").tensors
    name = "blocks.0.self_attn.q.lora_B.weight"
    saved = runs.saved(output, STEPS)
    [key] = [key for key in saved if key.startswith("generator/ema/") and key.endswith("self_attn/q/adapter/b")][:1]
    average = saved[key][0] if saved[key].ndim == 3 else saved[key]
    np.testing.assert_array_equal(tensors[name], average.T)
    loop.train(options(place, output, export=str(target), export_step=6))
    np.testing.assert_array_equal(read_file(target).tensors[name], tensors[name])


@pytest.mark.slow
def test_previews_show_teacher_and_student(place, tmp_path):
    sound, picture = str(ROOT / "assets" / "speech.flac"), str(ROOT / "assets" / "face.png")
    shown = dict(preview_steps=3, preview_image=picture, preview_audio=sound, preview_sample_steps=1)
    loop.train(options(place, tmp_path / "run", max_steps=6, **shown), make_video=make_video)
    made = {path.name for path in (tmp_path / "run" / "previews").iterdir() if path.suffix in (".mp4", ".png")}
    assert made == {"teacher.mp4", "step-3.mp4", "step-6.mp4", "step-3.png", "step-6.png"}
    with Image.open(tmp_path / "run" / "previews" / "step-6.png") as picture:
        assert picture.size == (4 * 128, 2 * 128)
        above, below = np.split(np.asarray(picture), 2)
    assert np.abs(above.astype(int) - below).max() > 0


@pytest.mark.slow
def test_eight_devices_distil_as_one_does(place, tmp_path):
    for name, mesh in (("one", {}), ("eight", {"mesh": "data=2,fsdp=2,context=2"})):
        loop.train(options(place, tmp_path / name, batch_size=4, max_steps=3, **mesh))
    one, eight = (runs.saved(tmp_path / name, 3) for name in ("one", "eight"))
    for name, value in one.items():
        if "/params/" in name:
            assert error(eight[name], value) < 1e-4, name


@pytest.mark.slow
def test_another_round_or_teacher_is_another_run(place, straight):
    with pytest.raises(UserError, match="--critic_updates was 2, now 3"):
        loop.train(options(place, straight[0], critic_updates=3))
    with pytest.raises(UserError, match="--objective was distil, now None"):
        loop.train(options(place, straight[0], objective="flow_matching", clip_frames=None, num_frames=16))


def build(**values) -> TrainOptions:
    return TrainOptions.build(family_settings, dict(weights="", shards="-", objective="distil") | values, "here")


@pytest.mark.parametrize(
    "values, message",
    [
        ({"init": "adapter"}, "adapter: a student begins as its teacher"),
        ({"score_levels": (0.9, 0.1)}, "score_levels: 0.9 0.1: give two levels"),
        ({"objective": "flow_matching", "clip_frames": 8}, "clip_frames: belongs to --objective distil"),
        ({"adam_betas": (0.9, 1.0)}, "adam_betas: 0.9 1.0: give two numbers"),
    ],
)
def test_options_that_do_not_fit_are_refused(values, message):
    with pytest.raises(UserError) as caught:
        build(**values)
    assert message in str(caught.value)


def test_passes_of_a_round_are_counted():
    asked = build(num_frames=80, clip_frames=16, size_bucket="tiny-128", finetune_all=True)
    objective = objective_of(asked, FAMILY, runs.TINY, read=False)
    # of one to five clips two come before the last in the mean, and of four steps one and a half
    assert objective.passes == [2 * 4 + 1.5 + 1, 2 * 4 + 1.5 + 1 + 2] and objective.clip_frames == 16
    critic, student = (phase_flops(objective, phase, asked, FAMILY, runs.TINY, (128, 128)) for phase in (0, 1))
    assert student / critic == pytest.approx((3 + 12.5) / (3 + 10.5), rel=0.02)
    assert {name: role.ema_decay for name, role in objective.roles.items()} == dict.fromkeys(objective.roles, 0.0)
    with pytest.raises(UserError, match="--clip_frames 48: give a multiple of 4 of which --num_frames 80"):
        objective_of(build(num_frames=80, clip_frames=48), FAMILY, runs.TINY, read=False)
