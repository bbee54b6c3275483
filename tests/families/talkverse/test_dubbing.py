"""A video whose person says something else."""

import json

import numpy as np
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.diffusion.flow import make_schedule
from talkverse_jax.families.talkverse.clips import Dubbing
from talkverse_jax.families.talkverse.inputs import read
from talkverse_jax.families.talkverse.settings import Files, Settings
from talkverse_jax.pipeline.job import Job
from talkverse_jax.pipeline.machine import Machine, Weights
from tests.families.talkverse.test_clips import clips_of, models  # noqa: F401
from tests.run.test_worker import arguments, frames_of, run  # noqa: F401
from tests.videos import write_video


@pytest.fixture
def video(tmp_path):
    """0.4 s at 30 frames a second, a beep half-way."""
    beep = lambda t: 0.5 * np.sin(2 * np.pi * 440 * t) * (t > 0.2)  # noqa: E731
    return write_video(tmp_path / "source.mp4", 0.4, 30, sound=beep)


def read_inputs(path, audio=None):
    """The inputs of a job that dubs a video."""
    files, settings = Files(image=str(path), audio=audio and str(audio)), Settings(prompt="", size_bucket="tiny-128")
    return read(Job.make("talkverse", Weights(weights=""), Machine(), files, settings, "talk.mp4"))


def dubbed(arguments, **changes) -> np.ndarray:  # noqa: F811
    run(arguments | changes)
    return frames_of(arguments["output"]).astype(int)


@pytest.mark.slow
def test_a_video_is_dubbed_with_its_own_sound_or_another(arguments, video):  # noqa: F811
    other = dubbed(arguments, image=video)
    assert other.shape == (13, 128, 128, 3)
    del arguments["audio"], arguments["num_clip"]
    own = dubbed(arguments, image=video)
    record = json.loads(arguments["output"].with_suffix(".json").read_text())
    assert len(own) == record["frames"] == 10 and record["clips"] == 2  # its sound is 0.4 s
    assert np.abs(own - other[:10]).mean() > 0.01


@pytest.mark.slow
def test_less_noise_leaves_more_of_the_video(arguments, video):  # noqa: F811
    """With hardly any, it comes back as the autoencoder shows it."""
    little, much, all_of_it = (
        dubbed(arguments, image=video, dubbing_noise_strength=strength) for strength in (0.02, 0.8, 1)
    )
    near, far = np.abs(much - little).mean(), np.abs(all_of_it - little).mean()
    assert 1 < near < far


@pytest.mark.slow
def test_a_short_video_is_held_or_shown_again(arguments, video):  # noqa: F811
    hold, loop = (
        dubbed(arguments, image=video, dubbing_noise_strength=0.02, num_clip=3, video_end=end)
        for end in ("hold", "loop")
    )
    np.testing.assert_array_equal(hold[:5], loop[:5])  # both show the video
    assert np.abs(hold[13:] - loop[13:]).mean() > 0.5


@pytest.mark.slow
def test_full_noise_is_generation_with_the_same_reference(models):  # noqa: F811
    seen = []

    def frames(first: int, count: int) -> np.ndarray:
        seen.append((first, count))
        return np.random.default_rng(first + 100).uniform(-1, 1, (count, 128, 128, 3)).astype(np.float32)

    reference = frames(-3, 8)[2]
    plain = next(clips_of(models, num_clips=1, image=reference))
    dubbing = Dubbing(frames, lambda clip, count: 2)
    full = next(clips_of(models, num_clips=1, dubbing=dubbing, dubbing_noise_strength=1.0))
    np.testing.assert_array_equal(full.latents, plain.latents)
    assert seen[1:] == [(-3, 8)]  # the frames of the clip, three before the first as of the sound
    part = next(clips_of(models, num_clips=1, dubbing=dubbing, dubbing_noise_strength=0.9))
    assert np.abs(part.latents - plain.latents).max() > 0.1


def test_the_schedule_is_walked_from_the_noise_level_on():
    schedule = make_schedule("unipc", 10, 5.0)
    part = schedule.below(0.9)
    assert part.timesteps[0] <= 900 < schedule.timesteps[schedule.steps - part.steps - 1]
    np.testing.assert_array_equal(part.sigmas, schedule.sigmas[-len(part.sigmas) :])
    one = schedule.below(0.05)
    assert one.timesteps.tolist() == [50] and one.sigmas.tolist() == [0.05, 0]
    assert schedule.below(1.0) is schedule


def test_each_clip_draws_its_reference_by_the_seed(video, tmp_path):
    inputs = read_inputs(video)
    assert inputs.size == (128, 128) and inputs.track.duration == pytest.approx(0.4, abs=1e-3)
    drawn = [inputs.dubbing(seed).reference(clip, 100) for seed in (1, 2) for clip in range(4)]
    assert len(set(drawn)) > 5 and all(0 <= n < 100 for n in drawn)


def test_the_sound_of_a_video_that_starts_late_is_cut_to_its_pictures(tmp_path):
    path = write_video(tmp_path / "late.mkv", 1.0, video_start=0.5)
    inputs = read_inputs(path)
    assert inputs.track.duration == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("name", ["source.mp4", "source.mkv"])
@pytest.mark.parametrize("starts", [{"sound_start": 0.5}, {"video_start": 0.3}, {}], ids=["sound", "pictures", "none"])
def test_a_video_given_as_picture_and_as_sound_is_heard_as_its_own(tmp_path, name, starts):
    """Whichever begins late, and by whatever name the file is given."""
    path = write_video(tmp_path / name, 1.0, **starts)
    (tmp_path / "link").symlink_to(path)
    own, same, linked = (read_inputs(path, audio).track for audio in (None, path, tmp_path / "link"))
    samples = np.concatenate(list(own.native()))
    assert len(samples) == pytest.approx(44100 * 1.0, abs=1100)
    silent = round(44100 * starts.get("sound_start", 0))
    assert not samples[: max(0, silent - 2048)].any() and np.abs(samples[silent : silent + 4410]).max() > 0.3
    for track in (same, linked):
        np.testing.assert_array_equal(np.concatenate(list(track.native())), samples)
        assert track.notices == own.notices


def test_a_picture_brings_no_sound(arguments, capsys):  # noqa: F811
    del arguments["audio"]
    with pytest.raises(SystemExit):
        run(arguments)
    assert "error: --audio missing" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(arguments | {"dubbing_noise_strength": 0})
    assert "--dubbing_noise_strength 0.0: give a number from 0.001 to 1" in capsys.readouterr().err


def test_a_silent_video_needs_a_sound(tmp_path):
    path = write_video(tmp_path / "silent.mp4", 0.4, sound=None)
    with pytest.raises(UserError, match="silent.mp4: has no sound of its own; give the one to be spoken"):
        read_inputs(path)
