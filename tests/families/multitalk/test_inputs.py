"""What the files of a video become, and what is said of them."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import soundfile
from PIL import Image

from talkverse_jax.core.errors import UserError
from talkverse_jax.families.multitalk import inputs, voices
from talkverse_jax.families.multitalk.components import COMPONENTS
from talkverse_jax.families.multitalk.inputs import MultiTalkInputs, read
from talkverse_jax.families.multitalk.settings import Files, Settings
from talkverse_jax.families.multitalk.voices import HEARD, Mix, read_voices
from talkverse_jax.media.audio import read_audio
from talkverse_jax.media.loudness import loudness
from talkverse_jax.pipeline.job import Job
from talkverse_jax.pipeline.machine import Machine, Weights
from tests.sounds import tone
from tests.videos import read_number, write_video

QUIET = 0.02


@pytest.fixture(autouse=True)
def weights(monkeypatch):
    """Gives the weights, which are the published MultiTalk, other sizes."""
    sizes = {name: component.real_size() for name, component in COMPONENTS.items()}
    monkeypatch.setattr(inputs.store, "load_config", lambda weights, component: sizes[component.name])

    def change(name, **changes):
        sizes[name] = dataclasses.replace(sizes[name], **changes)

    return change


@pytest.fixture
def place(tmp_path):
    """Two people's picture, 160x90, and their sounds: 1.0 s at 16 kHz, and 0.6 s of stereo at 44.1 kHz."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (90, 160, 3), np.uint8)).save(tmp_path / "two.png")
    soundfile.write(tmp_path / "a.wav", tone(1.0, 16_000, peak=QUIET), 16_000, subtype="FLOAT")
    stereo = np.stack([tone(0.6, 44_100, 700.0, 0.3), tone(0.6, 44_100, 500.0, 0.1)], axis=1)
    soundfile.write(tmp_path / "b.wav", stereo, 44_100, subtype="FLOAT")
    return tmp_path


def read_job(place, *sounds, image="two.png", machine=Machine(), **given) -> MultiTalkInputs:  # noqa: B008
    of_files = {name: given.pop(name) for name in ("bbox", "mask", "input_json") if name in given}
    paths = tuple(sound if sound == "none" else str(place / sound) for sound in sounds)
    files = Files(str(place / image), paths, **of_files)
    settings = Settings(**{"prompt": "", "size_bucket": "multitalk-tiny"} | given)
    return read(Job.make("multitalk", Weights(weights=""), machine, files, settings, "talk.mp4"))


def heard(voice) -> np.ndarray:
    return np.concatenate(list(voice.mono(HEARD)))


def played(track) -> np.ndarray:
    return np.concatenate(list(track.native()))


def test_the_picture_is_scaled_rounded_up_and_cropped(place):
    found = read_job(place, "a.wav")
    image = Image.open(place / "two.png").resize((114, 64), Image.Resampling.BILINEAR)  # 113.8
    expected = np.asarray(image)[:, 9:105]
    assert found.size == (64, 96) and found.masks.shape == (2, 8, 12)
    np.testing.assert_array_equal(found.picture, expected)
    np.testing.assert_array_equal(found.reference(72), expected)
    assert found.notices == (f"{place / 'two.png'}: 160x90, made 96x64 (cropped 15.8% of the width)",)


def test_voices_are_as_loud_as_broadcasting_and_of_one_length(place):
    found = read_job(place, "a.wav", "b.wav", bbox=("0,30,90,70", "0,90,90,130"))
    assert [len(heard(voice)) for voice in found.voices] == [16_000, 16_000]
    for voice, name in zip(found.voices, ("a.wav", "b.wav")):
        samples = read_audio(place / name).samples
        level = loudness([samples], HEARD)
        expected = samples * np.float32(10 ** ((-23 - level) / 20))
        np.testing.assert_allclose(heard(voice)[: len(samples)], expected, rtol=1e-6)
        assert not heard(voice)[len(samples) :].any()
        assert loudness([expected], HEARD) == pytest.approx(-23, abs=1e-3)
    assert found.seconds == 1.0 and found.voices[1].duration == 1.0
    assert found.notices[1:] == (f"{place / 'b.wav'}: 0.60 s long, silence is added up to the longest sound's 1.00 s",)


def test_one_after_the_other(place):
    found = read_job(place, "a.wav", "b.wav", audio_type="add")
    first, second = map(heard, found.voices)
    assert len(first) == len(second) == 16_000 + 9_600
    assert first[:16_000].any() and not first[16_000:].any()
    assert not second[:16_000].any() and second[16_000:].any()
    assert not any("silence is added" in notice for notice in found.notices)


def test_who_says_nothing_is_silent_as_long(place):
    found = read_job(place, "none", "b.wav")
    assert found.voices[0].length == found.voices[1].length == 9_600
    assert not heard(found.voices[0]).any() and heard(found.voices[1]).any()


@pytest.mark.parametrize("audio_type", ["para", "add"])
def test_the_video_plays_both_at_the_best_rate(place, audio_type):
    found = read_job(place, "a.wav", "b.wav", audio_type=audio_type)
    track, mixed = found.track, played(found.track)
    assert track.rate == 44_100 and mixed.shape == (44_100 + (audio_type == "add") * 26_460, 2)
    start = 44_100 * (audio_type == "add")
    alone = found.voices[1].gain * soundfile.read(place / "b.wav")[0]
    other = found.voices[0].gain * read_audio(place / "a.wav", 44_100).samples
    expected = np.zeros_like(mixed)
    expected[:44_100] += other[:, None]
    expected[start : start + 26_460] += alone
    np.testing.assert_allclose(mixed, expected, atol=1e-6)


def test_one_voice_is_played_as_its_file_has_it(place):
    found = read_job(place, "b.wav")
    expected = soundfile.read(place / "b.wav")[0] * found.voices[0].gain
    np.testing.assert_allclose(played(found.track), expected, atol=1e-6)


@pytest.mark.parametrize("block", [1 << 16, 1000])
def test_what_would_clip_is_played_quieter(place, monkeypatch, block):
    """A click of little power is far above its loudness."""
    monkeypatch.setattr(voices, "_BLOCK", block)
    click = tone(2.0, 48_000, peak=0.01)
    click[48_000:48_010] = 0.9
    soundfile.write(place / "click.wav", click, 48_000, subtype="FLOAT")
    found = read_job(place, "click.wav", "b.wav")
    assert found.voices[0].gain > 2 and found.track.gain < 0.5
    assert np.abs(played(found.track)).max() == pytest.approx(1)
    [said] = [notice for notice in found.notices if "would clip;" in notice]
    assert (
        said
        == f"the sounds together would clip; the video plays them {-20 * np.log10(found.track.gain):.1f} dB quieter"
    )


def test_sounds_are_never_whole_in_memory(place):
    """Of two minutes no block is longer than two seconds."""
    soundfile.write(place / "long.wav", tone(120.0, 8000), 8000)
    found, _ = read_voices([str(place / "long.wav"), str(place / "a.wav")], "add")
    track = Mix(found)
    assert max(map(len, found[0].mono(HEARD))) <= 2 * HEARD and max(map(len, track.native())) <= 1 << 16
    assert sum(map(len, track.native())) == 121 * 16_000


@pytest.mark.parametrize(
    "sounds, given, message",
    [
        (
            ["a.wav"] * 3,
            {},
            "--audio 3 people, but the weights know 2; give fewer sounds, or --speakers 3 ",
        ),
        (["a.wav", "b.wav"], {"bbox": ("0,0,91,50", "0,80,90,160")}, "--bbox 0,0,91,50: lies outside the picture"),
        (["a.wav", "short.wav"], {}, "short.wav: 0.20 s long; give 0.4 s or more"),
        (["a.wav", "nothing.wav"], {}, "nothing.wav: no such file"),
        (["two.png"], {}, "two.png: "),
    ],
)
def test_what_cannot_be_is_told_in_a_line(place, sounds, given, message):
    soundfile.write(place / "short.wav", tone(0.2, 16_000), 16_000)
    with pytest.raises(UserError) as error:
        read_job(place, *sounds, **given)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_more_people_as_an_experiment(place):
    found = read_job(place, "a.wav", "none", "b.wav", speakers=3)
    assert found.masks.shape == (4, 8, 12) and len(found.voices) == 3
    assert "no --bbox: the people are taken to be side by side, in the order of their sounds" in found.notices


def test_who_is_let_in_is_the_weights_or_a_person_s_say(place, weights):
    weights("dit", speaker_ranges=((0.0, 4.0),) * 3)
    assert read_job(place, "a.wav", "none", "b.wav").masks.shape == (4, 8, 12)
    with pytest.raises(UserError, match="3 people, more than --speakers 2; give fewer sounds, or --speakers 3$"):
        read_job(place, "a.wav", "none", "b.wav", speakers=2)


def test_sizes_are_whole_tokens(place, weights):
    weights("vae", pixel_patch=2)
    assert read_job(place, "a.wav", "b.wav").masks.shape == (3, 4, 6)
    weights("vae", pixel_patch=4)
    with pytest.raises(UserError, match="--size_bucket 96x64: a token of these weights is 64x64 pixels; give a "):
        read_job(place, "a.wav", "b.wav")


def test_what_is_given_for_nothing_is_told(place):
    said = read_job(place, "a.wav", bbox=("0,0,90,80",), scene_seg=True).notices
    assert "one person's box or mask decides nothing, so it is not used" in said
    assert f"--scene_seg: {place / 'two.png'} is a picture, which has no scenes" in said


def test_jobs_of_one_shape(place):
    shape = lambda *sounds, **given: read_job(place, *sounds, **given).shape  # noqa: E731
    one = shape("a.wav")
    assert one == shape("b.wav", prompt="other", max_frames=9, mode="clip", sample_shift=7.0)
    others = [shape("a.wav", "b.wav"), *(shape("a.wav", **given) for given in ({"frame_num": 41}, {"use_apg": True}))]
    others += [shape("a.wav", sample_shift=5.0), shape("a.wav", size_bucket="multitalk-480")]
    assert len({one, *others}) == 6


@pytest.mark.parametrize("way, numbers", [("exact", [0, 20, 48, 48]), ("upstream", [0, 10, 24, 49])])
def test_infinitetalk_follows_a_video(place, weights, way, numbers):
    """50 frames a second: picture k at 25 a second is frame 2k."""
    weights("dit", recipe="infinitetalk")
    write_video(place / "film.mp4", 1.0, 50, size=(64, 64))
    found = read_job(place, "a.wav", "b.wav", image="film.mp4", source_frames=way)
    assert found.size == (64, 64) and found.masks.shape == (3, 8, 8)
    np.testing.assert_array_equal(found.reference(0), found.picture)
    assert [read_number(found.reference(frame)) for frame in (0, 10, 24, 72)] == numbers


def test_a_video_says_what_it_said(place, weights):
    """Its own sound begins with its first picture, which is shown late here."""
    weights("dit", recipe="infinitetalk")
    write_video(place / "film.mp4", 1.0, size=(64, 64), video_start=0.4)
    found = read_job(place, "film.mp4", image="film.mp4")
    assert found.seconds == pytest.approx(1.0, abs=0.05)
    copy = shutil.copy(place / "film.mp4", place / "copy.mp4")
    assert read_job(place, copy.name, image="film.mp4").seconds == pytest.approx(1.4, abs=0.05)


def test_multitalk_takes_no_video(place):
    write_video(place / "film.mp4", 0.4, size=(64, 64))
    with pytest.raises(UserError) as error:
        read_job(place, "a.wav", image="film.mp4")
    assert str(error.value) == (
        f"--image {place / 'film.mp4'}: is a video, and the weights are MultiTalk's; give a picture, or weights that "
        "were converted with --infinitetalk_dir"
    )


def test_files_are_read_within_the_walls(place):
    with pytest.raises(UserError, match="million pixels"):
        read_job(place, "a.wav", machine=Machine(max_pixels=100))
    with pytest.raises(UserError, match="more than 1 s"):
        soundfile.write(place / "long.wav", tone(2.0, 16_000), 16_000)
        read_job(place, "a.wav", "long.wav", machine=Machine(max_seconds=1))


def test_where_the_json_s_files_were_found_is_told(place, monkeypatch):
    monkeypatch.chdir(place)
    (place / "in").mkdir()
    (place / "in/job.json").write_text(json.dumps({"image": "two.png", "people": [{"audio": "a.wav"}]}))
    said = read_job(place, "a.wav", input_json=str(place / "in/job.json")).notices
    assert (
        f"{place / 'in/job.json'}: two.png, a.wav: taken from the current folder; beside the file there is none" in said
    )
