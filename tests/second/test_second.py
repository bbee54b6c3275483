"""A family of the tests goes through every door: converted, exported, planned, sampled alone and in batches, stopped
and gone on with."""

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.diffusion import denoise as loop
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.events import Cancelled, Events
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.plan import plan as plan_tool
from talkverse_jax.plan.options import PlanOptions
from talkverse_jax.run.worker import make_clips, make_video
from tests.second import pipeline as second
from tests.second import places
from tests.second.pipeline import make_timeline
from tests.second.places import run
from tests.second.settings import Settings


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> places.Place:
    return places.make(tmp_path_factory.mktemp("second"))


@pytest.fixture(scope="module")
def loaded(place):
    return registry.find("second").load_pipeline(
        Weights(str(place.weights)), Machine(dtype="float32"), keep_encoders=True
    )


@pytest.fixture
def job(loaded, place, tmp_path):
    """Makes the job of a name."""

    def make(name: str = "a", **values):
        files = {"portrait": str(places.FACE), "sounds": place.sounds, "output": str(tmp_path / f"{name}.mp4")}
        return loaded.job(**{**files, "base_seed": 3, "scene": "A woman talks.", **values})

    return make


def frames_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_published_files_come_back(place, tmp_path):
    run("convert", family="second", output=place.weights, export=tmp_path)
    for file in ("second/net.safetensors", "second/eye.safetensors", "second.safetensors"):
        assert (tmp_path / file).read_bytes() == (place.published["adapter"].parent / file).read_bytes()
    assert json.loads((place.weights / "manifest.json").read_text())["family"] == "second"


def test_a_clip_shows_what_none_before_it_has_shown():
    timeline = make_timeline(Settings(), 29 / 25)
    assert timeline.starts == (0, 8, 16)
    assert [timeline.shown_of(clip) for clip in range(3)] == [slice(0, 13), slice(5, 13), slice(5, 13)]
    timeline = make_timeline(Settings(), 1.3)
    assert timeline.starts == (0, 8, 16, 20) and timeline.shown_of(3) == slice(9, 13) and timeline.frames == 33
    assert timeline.borders == (13, 21, 29)
    assert make_timeline(Settings(), 0.2).shown_of(0) == slice(0, 5)


def test_two_sounds_are_heard_together(loaded, job, place):
    sounds = place.sounds
    make_video(loaded, job())
    played = second.read(job()).track
    [mixed] = played.native()
    parts = [soundfile.read(path, dtype="float32")[0] for path in sounds]
    np.testing.assert_allclose(mixed[: len(parts[1]), 0], parts[0][: len(parts[1])] + parts[1], atol=1e-4)
    np.testing.assert_allclose(mixed[len(parts[1]) :, 0], parts[0][len(parts[1]) :], atol=1e-4)
    encoded = loaded.encode(job(), Events())
    other = loaded.encode(job(sounds=[sounds[1], sounds[0]]), Events())
    np.testing.assert_array_equal(encoded.sounds[0], other.sounds[1])
    record = json.loads(Path(job().output).with_suffix(".json").read_text())
    assert record["family"] == "second" and record["clips"] == 3 and record["frames"] == 29
    frames = frames_of(Path(job().output))
    assert len(frames) == 29 and frames.std() > 10


def test_the_command_makes_the_same_and_says_what_it_lacks(place, loaded, job, tmp_path):
    weights, sounds = place.weights, place.sounds
    make_video(loaded, job())
    whole = Path(job().output).read_bytes()
    flags = dict(weights=weights, portrait=places.FACE, sounds=sounds, scene="A woman talks.", base_seed=3)
    run("sample", **flags, dtype="float32", output=tmp_path / "b.mp4")
    assert (tmp_path / "b.mp4").read_bytes() == whole
    with pytest.raises(UserError, match="--sounds 1 given; give two"):
        run("sample", **{**flags, "sounds": sounds[:1]}, output=tmp_path / "c.mp4")
    with pytest.raises(UserError, match="--overlap 4: give 1 more than a multiple of 4"):
        run("sample", **flags, overlap=4, output=tmp_path / "c.mp4")


class Stops(Events):
    """Asks to stop after so many steps."""

    def __init__(self, after: int):
        self.left = after

    def step(self, index: int, count: int) -> None:
        self.left -= 1

    def cancelled(self) -> bool:
        return self.left <= 0


@pytest.mark.parametrize("steps", [1, 3])
def test_a_stopped_video_goes_on_to_the_same_bytes(loaded, job, steps):
    make_video(loaded, job("whole"))
    stops = Stops(steps)
    with pytest.raises(Cancelled):
        make_video(loaded, job(), stops)
    assert stops.left == 0
    make_video(loaded, job(), resume=True)
    assert Path(job().output).read_bytes() == Path(job("whole").output).read_bytes()


def test_a_batch_makes_what_each_alone_is(place, loaded, job, tmp_path):
    weights, sounds = place.weights, place.sounds
    make_video(loaded, job())
    rows = [
        {"id": "a", "scene": "A woman talks.", "seed": 3},
        {"id": "b", "scene": "Nobody.", "seed": 4},
        {"id": "bad", "bucket": 3},
        {"id": "c", "base_seed": 4, "seed": 3},
    ]
    files = {"portrait": str(places.FACE), "sounds": sounds}
    (tmp_path / "list.jsonl").write_text("\n".join(json.dumps(files | row) for row in rows))
    flags = dict(weights=weights, batch=tmp_path / "list.jsonl", output_dir=tmp_path / "made", dtype="float32")
    with pytest.raises(SystemExit) as stop:
        run("sample", **flags)
    assert stop.value.code == 1
    assert (tmp_path / "made/a.mp4").read_bytes() == Path(job().output).read_bytes()
    told = {row["id"]: row for row in map(json.loads, (tmp_path / "made/results.jsonl").read_text().splitlines())}
    assert told["b"]["state"] == "done" and "unknown key 'bucket'" in told["bad"]["error"]
    assert "are the same; give one of them" in told["c"]["error"]


def test_a_pack_makes_what_each_alone_is(loaded, job):
    """But for the last digits: every video draws from its own seed, wherever it stands."""
    jobs = [job("a", base_seed=3), job("b", base_seed=4, scene="Nobody.")]
    alone = [next(iter(make_clips(loaded, one))) for one in jobs]
    states = [loaded.start(loaded.encode(one, Events()), Events()) for one in jobs]
    made = {place: clip for place, clip, _ in loaded.advance([states[1], None, states[0]], [Events(), None, Events()])}
    for place, one in ((0, alone[1]), (2, alone[0])):
        np.testing.assert_allclose(made[place].latents, one.latents, atol=1e-4)
    assert np.abs(alone[0].latents - alone[1].latents).max() > 0.1


def test_held_latents_are_exact_after_each_step_and_skipped_steps_leave_out_the_blocks(loaded, job, monkeypatch):
    calls = []
    step = loop.denoising_step

    def spy(*args, **kwargs):
        made = step(*args, **kwargs)
        calls.append((args[1].cache is None, args[6], np.asarray(made.solver.sample)))
        return made

    monkeypatch.setattr(loop, "denoising_step", spy)
    clips = list(make_clips(loaded, job(steps=4, skip=True)))
    assert [full for full, _, _ in calls] == [True, False] * 2 * len(clips)
    for number, (_, hold, sample) in enumerate(calls):
        kept = 1 if number < 4 else 2  # latent frames: of the picture, of five frames
        np.testing.assert_array_equal(sample[:, :kept], np.asarray(hold.latents)[:, :kept])
        assert np.abs(sample[:, kept:] - np.asarray(hold.latents)[:, kept:]).min() > 0
    whole = list(make_clips(loaded, job(steps=4)))
    assert np.abs(whole[0].latents - clips[0].latents).max() > 1e-3


def test_the_end_of_the_clip_before_is_seen(loaded, job, monkeypatch):
    """Beside the latents that are held."""
    encoded, looks = loaded.encode(job(), Events()), []

    def spy(net, text, no_text, sounds, look, known):
        looks.append(np.asarray(look))
        return prepare(net, text, no_text, sounds, look, known)

    prepare = second.prepare
    monkeypatch.setattr(second, "prepare", spy)
    state = loaded.start(encoded, Events())
    made = []
    for _ in range(2):
        [(_, clip, state)] = loaded.advance([state], [Events()])
        made.append(clip)
    eye = loaded.models["eye"]
    np.testing.assert_array_equal(looks[0], second.see(eye, encoded.inputs.picture[None]))
    np.testing.assert_array_equal(looks[1], second.see(eye, made[0].frames[-1:]))
    assert np.abs(looks[0] - looks[1]).max() > 1e-4


@pytest.mark.parametrize(
    "wanted", [("step", "step, skipped", "look"), pytest.param((), marks=pytest.mark.slow)], ids=["few", "all"]
)
def test_the_plan_compiles_and_counts(place, tmp_path, wanted):
    (tmp_path / "run.toml").write_text("steps = 4\nskip = true\n")
    options = PlanOptions(
        "cpu", str(tmp_path / "run.toml"), mesh="fsdp=-1", weights=str(place.weights), programs=wanted
    )
    [plan] = plan_tool.run(options, Reporter())
    assert plan.faults == []
    found = {p.name: p for p in plan.programs}
    assert found["step"].times == found["step, skipped"].times == 2
    assert found["step, skipped"].cost.flops < 0.5 * found["step"].cost.flops
    rest = {"look"} if wanted else {"prepare", "decode", "encode", "look", "words", "ears"}
    assert found.keys() == {"step", "step, skipped"} | rest


def test_the_plan_of_a_machine_that_is_not_here(place, tmp_path):
    (tmp_path / "run.toml").write_text("")
    [plan] = plan_tool.run(PlanOptions("H100-1", str(tmp_path / "run.toml"), weights=str(place.weights)), Reporter())
    assert [p.name for p in plan.programs][:2] == ["step", "prepare"] and all(p.fits for p in plan.programs)


def test_videos_of_a_set_are_made_and_measured(place, tmp_path):
    for name in ("clip0", "clip1"):
        shutil.copy(places.FACE, place.data.parent / "videos" / f"{name}.png")
    (tmp_path / "sample.toml").write_text('steps = 1\nbase_seed = 5\ndtype = "float32"\n')
    run("evaluate", weights=place.weights, set=place.data, config=tmp_path / "sample.toml", output=tmp_path / "found")
    figures = json.loads((tmp_path / "found/evaluation.json").read_text())["videos"]
    assert [one["video"] for one in figures] == ["clip0", "clip1"]
    assert all(one["frames"] == 32 and one["jumps"]["borders"] == 3 for one in figures)
