"""The measures measured: on videos of the toy world, whose mouths follow their sound, and on spoilt ones."""

import json

import numpy as np
import pytest
from PIL import Image, ImageFilter

from talkverse_jax.cli import evaluate as command
from talkverse_jax.core.errors import UserError
from talkverse_jax.evaluate import evaluate as module
from talkverse_jax.evaluate import speak as speaking
from talkverse_jax.evaluate.evaluate import evaluate
from talkverse_jax.evaluate.face import read_face
from talkverse_jax.evaluate.identity import identity
from talkverse_jax.evaluate.measures import measure
from talkverse_jax.evaluate.pictures import blurred, sharpness, ssim_map
from talkverse_jax.evaluate.sound import loudness, sync
from talkverse_jax.media.fit import bring
from talkverse_jax.media.video_writer import VideoWriter
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.toy.make import make, make_clip, write_clip
from talkverse_jax.toy.make_options import MakeOptions
from talkverse_jax.toy.speech import RATE

SECONDS, CLIPS = 5.0, 4


@pytest.fixture(scope="module")
def clips():
    return [make_clip(11, "held_out", number, SECONDS) for number in range(CLIPS)]


@pytest.fixture(scope="module")
def folder(clips, tmp_path_factory):
    path = tmp_path_factory.mktemp("talk")
    for number, clip in enumerate(clips):
        write_clip(clip, path / f"clip{number}.mp4")
    return path


@pytest.fixture(scope="module")
def real(folder):
    """The videos as they are, in clips of 60 frames."""
    return evaluate([folder], reference=folder, clip_frames=60)


def write(path, frames, sound):
    height, width = frames.shape[1:3]
    with VideoWriter(path, width=width, height=height, sound=[sound[:, None]], rate=RATE) as writer:
        writer.write(frames)
    return path


def test_real_videos(real):
    for part in ("all", "first", "later"):
        figures = real.summary[part]
        assert figures["correlation"]["median"] >= 0.95, part
        assert figures["lag"]["least"] == figures["lag"]["most"] == 0, part
        assert figures["identity"]["least"] >= 0.85, part
    assert real.summary["all"]["correlation_swapped"]["median"] < 0.2
    drift, jumps = real.summary["drift"], real.summary["jumps"]
    assert drift["colour"]["most"] < 2
    assert drift["sharpness"]["least"] > 0.9 and drift["sharpness"]["most"] < 1.1
    assert drift["identity"]["least"] > 0.9
    assert jumps["borders"]["median"] == 2
    assert jumps["ratio"]["median"] < 2


def test_the_opening_is_that_of_the_mouth(clips):
    for clip in clips:
        face = read_face(clip.film.frames)
        assert np.corrcoef(face.opening, clip.film.opening[:, 0])[0, 1] > 0.94
        lips = clip.film.keypoints[:, 0, 71:91, :2]
        centre = (lips.min((0, 1)) + lips.max((0, 1))) / 2
        left, top, right, bottom = face.mouth
        assert np.abs(centre - [(left + right) / 2, (top + bottom) / 2]).max() < 6


def test_blurred_and_noisy_pictures_are_read_too(clips):
    rng = np.random.default_rng(0)
    for clip in clips[:2]:  # who talk most of the time
        blur = ImageFilter.GaussianBlur(1.5)
        soft = np.stack([np.asarray(Image.fromarray(frame).filter(blur)) for frame in clip.film.frames])
        noisy = np.clip(soft + rng.normal(0, 6, soft.shape), 0, 255).astype(np.uint8)
        assert np.corrcoef(read_face(noisy).opening, clip.film.opening[:, 0])[0, 1] > 0.9


def test_stills_do_not_talk(clips, tmp_path):
    clip = clips[0]
    still = np.repeat(clip.film.frames[:1], 125, axis=0)
    path = write(tmp_path / "still.mp4", still, clip.speech.sound)
    [figures] = evaluate([path]).records
    assert figures["all"]["correlation"] == figures["all"]["correlation_at_lag"] == 0
    assert figures["all"]["lag"] is None
    assert figures["all"]["identity"] > 0.99
    assert figures["drift"]["colour"] < 0.5


@pytest.mark.parametrize("late", [5, -3])
def test_a_shift_is_read_as_such(clips, tmp_path, late):
    clip = clips[1]
    shifted = np.roll(clip.film.frames, late, axis=0)
    path = write(tmp_path / "late.mp4", shifted, clip.speech.sound)
    [figures] = evaluate([path]).records
    assert figures["all"]["lag"] == late
    assert figures["all"]["correlation_at_lag"] > 0.95
    assert figures["all"]["correlation"] < 0.8


def test_a_drift_is_seen(clips, tmp_path):
    """Towards the end the picture goes red and soft and becomes somebody else; at borders it jumps."""
    clip, other = clips[0], make_clip(12, "train", 3, 0.1, clips[0].film.frames.shape[1:3])
    frames = clip.film.frames.astype(np.float32)
    frames[67:] = 0.5 * frames[67:] + 0.5 * other.film.frames[0]
    frames[67:] = blurred(frames[67:].swapaxes(1, 3), 1.0).swapaxes(1, 3)
    frames[67:, ..., 0] += 12
    spoilt = np.clip(frames, 0, 255).astype(np.uint8)
    path = write(tmp_path / "drift.mp4", spoilt, clip.speech.sound)
    [figures] = evaluate([path], clip_frames=70).records
    assert figures["drift"]["colour"] > 8
    assert figures["drift"]["sharpness"] < 0.6
    assert figures["drift"]["identity"] < 0.8
    assert figures["jumps"]["borders"] == 1
    assert figures["jumps"]["ratio"] > 5


def test_a_face_is_itself_and_nobody_else(clips):
    frames = clips[0].film.frames
    other = make_clip(12, "train", 3, 0.1, frames.shape[1:3]).film.frames
    face = read_face(frames)
    alike = identity(frames[:50], frames[0], face)
    assert alike[0] == pytest.approx(1, abs=1e-6)
    assert alike.mean() > 0.9
    assert identity(other, frames[0], face).mean() < 0.6
    moved = np.roll(frames[:1], (2, -3), axis=(1, 2))
    assert identity(moved, frames[0], face)[0] > 0.97


def test_similarity():
    rng = np.random.default_rng(0)
    picture = blurred(rng.uniform(0, 255, (40, 40)), 1.0)
    np.testing.assert_allclose(ssim_map(picture, picture), 1, rtol=1e-5)
    flat = np.full((40, 40), 100.0)
    expected = (2 * 100 * 150 + 6.5025) / (100**2 + 150**2 + 6.5025)
    np.testing.assert_allclose(ssim_map(flat, flat * 1.5), expected, rtol=1e-4)
    assert abs(ssim_map(picture, blurred(rng.uniform(0, 255, (40, 40)), 1.0)).mean()) < 0.2
    assert sharpness(flat) == pytest.approx(0) and sharpness(picture) > sharpness(blurred(picture, 1.0))


def test_loudness_is_at_its_time():
    sound = np.zeros(2 * RATE)
    tone = np.sin(2 * np.pi * 800 * np.arange(RATE // 2) / RATE)
    sound[RATE : RATE + len(tone)] = tone
    loud = loudness(sound, np.arange(60) / 25)  # past the end too
    np.testing.assert_allclose(loud[26:37], 1, atol=0.01)
    assert loud[:24].max() == 0 == loud[40:].max()
    hiss = np.sin(2 * np.pi * 6000 * np.arange(2 * RATE) / RATE)
    assert loudness(np.where(sound, sound, hiss), np.arange(45) / 25)[[10, 43]].max() < 0.05


def test_ends_in_silence_do_not_count():
    rng = np.random.default_rng(0)
    loud = np.zeros(200)
    loud[50:150] = rng.uniform(0.1, 1, 100)
    opening = rng.uniform(0, 5, 200)
    opening[50:150] = 5 * loud[50:150]
    assert sync(opening, loud, 0.1).correlation == pytest.approx(1)
    assert sync(opening, np.zeros(200), 0.1) is None
    assert sync(opening[:60], loud[:60], 0.1) is None  # ten frames of sound


def test_the_command(folder, real, tmp_path, capsys):
    videos = [str(folder / f"clip{number}.mp4") for number in (0, 1)]
    command.main(
        [*videos, "--reference", str(folder), "--clip_frames", "60", "--output", str(tmp_path / "out")], "evaluate"
    )
    printed = capsys.readouterr().out
    assert "mouth and sound" in printed and "clip borders" in printed
    kept = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert [one["video"] for one in kept["videos"]] == ["clip0", "clip1"]
    assert kept["videos"][0]["all"]["correlation"] == real.records[0]["all"]["correlation"]
    assert kept["videos"][0]["all"]["correlation_swapped"] == real.records[0]["all"]["correlation_swapped"]
    with Image.open(tmp_path / "out" / "evaluation.png") as page:
        assert page.width == 1320 and page.height > 400
        assert np.asarray(page.convert("RGB")).std() > 20


@pytest.mark.parametrize("fit", ["pad", "crop", None])
def test_the_reference_is_framed_as_the_video_was(clips, tmp_path, monkeypatch, fit):
    """By the record beside the video; without one as by default."""
    picture = clips[0].film.frames[0, :, 2:126]  # 128x124, of which 128x160 is made
    shown, talks = bring(picture, (128, 160), fit or "pad"), []
    path = write(tmp_path / "talk.mp4", np.repeat(shown[None], 30, axis=0), clips[0].speech.sound)
    if fit:
        path.with_suffix(".json").write_text(json.dumps({"settings": {"fit": fit}}))
    Image.fromarray(picture).save(tmp_path / "who.png")
    monkeypatch.setattr(module, "measure", lambda talk, *rest: talks.append(talk) or measure(talk, *rest))
    [figures] = evaluate([path], reference=tmp_path / "who.png").records
    assert figures["all"]["identity"] > 0.95
    np.testing.assert_array_equal(talks[0].reference, shown)
    black = (talks[0].reference == 0).all(axis=-1).mean()
    assert black == 0 if fit == "crop" else black == 0.2


def reads_nothing(frames):
    """A reader that takes the place of ours."""
    face = read_face(frames)
    return type(face)(np.zeros(len(frames)), face.mouth, face.face)


def test_another_reader(folder):
    [figures] = evaluate([folder / "clip0.mp4"], reader=f"{__name__}:reads_nothing").records
    assert figures["all"]["correlation"] == 0 and figures["all"]["correlation_swapped"] is None


def test_bad_input(folder, tmp_path):
    silent = tmp_path / "short.mp4"
    write(silent, np.zeros((5, 64, 64, 3), np.uint8), np.zeros(RATE, np.float32))
    (tmp_path / "empty").mkdir()
    video = str(folder / "clip0.mp4")
    cases = [
        ([str(tmp_path / "none.mp4")], "no such file"),
        ([str(silent)], "5 frames"),
        ([str(tmp_path / "empty")], "no mp4"),
        ([str(folder / "clip0.npz")], "clip0.npz: is an archive; give the file of a video"),
        ([video, "--clip_frames", "3"], "--clip_frames 3"),
        ([video, "--reader", "no.such:thing"], "--reader no.such:thing"),
        ([video, "--reference", str(tmp_path)], "clip0.png"),
        ([video, "--refrence", "x"], "did you mean --reference"),
    ]
    for flags, words in cases:
        with pytest.raises(UserError, match=words):
            command.main(flags, "evaluate")


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A set of two, who speak for 1.2 s."""
    folder = str(tmp_path_factory.mktemp("set"))
    return make(MakeOptions(folder, 2, set="held_out", seconds=1.2, square=True, workers=1))


@pytest.mark.slow
def test_it_makes_the_videos_of_a_set(tiny_weights, people, tmp_path, capsys):
    config = tmp_path / "sample.toml"
    config.write_text(
        'image = "nobody.png"\naudio = "nothing.wav"\nprompt = "nothing"\nnegative_prompt = "blurred"\n'
        'size_bucket = "tiny-128"\ninfer_frames = 8\nsample_steps = 2\ndtype = "float32"\nbase_seed = 3\n'
    )
    flags = ["--weights", str(tiny_weights), "--set", str(people), "--config", str(config)]
    command.main([*flags, "--output", str(tmp_path / "out")], "evaluate")
    assert "face like the reference" in capsys.readouterr().out
    videos = json.loads((tmp_path / "out" / "evaluation.json").read_text())["videos"]
    assert [video["video"] for video in videos] == ["held_out_00000", "held_out_00001"]
    assert all(video["frames"] == 30 and video["jumps"]["borders"] == 4 for video in videos)
    for number in range(2):
        record = json.loads((tmp_path / "out" / "videos" / f"held_out_{number:05d}.json").read_text())
        said = record["settings"]
        assert said["image"].endswith(f"held_out_{number:05d}.png") and said["audio"].endswith(f"{number:05d}.mp4")
        assert "person" in said["prompt"] and said["base_seed"] == 3


def test_two_people_of_a_set_with_one_name(tmp_path, monkeypatch):
    """One's video would take the place of the other's; the names differ in nothing but how the accent is written."""
    rows = ["a/Zoë.mp4,She talks.", "b/Zoe\u0308.mp4,She talks too."]
    (tmp_path / "set.csv").write_text("\n".join(["video_path,caption", *rows]), encoding="utf-8")
    for picture in ("a/Zoe\u0308.png", "b/Zoë.png"):  # each found under its other name
        (tmp_path / picture).parent.mkdir()
        (tmp_path / picture).touch()
    monkeypatch.setattr(speaking.registry, "family_of", lambda weights: "talkverse")
    with pytest.raises(UserError, match="set.csv line 3: another video of the set is called Zoe\u0308 too; rename one"):
        speaking.speak(Weights(weights="w"), Machine(), {}, str(tmp_path / "set.csv"), tmp_path / "out")


@pytest.mark.parametrize("flags, message", [
    (["--weights", "w", "--output", "o"], "needs --set"),
    (["--weights", "w", "--set", "s"], "and --output"),
    (["--weights", "w", "--set", "s", "--output", "o", "talk.mp4"], "leave out VIDEO"),
    (["--set", "s", "talk.mp4"], "--weights"),
    ([], "no videos"),
])  # fmt: skip
def test_flags_that_do_not_go_together(flags, message):
    with pytest.raises(UserError, match=message):
        command.main(flags, "evaluate")
