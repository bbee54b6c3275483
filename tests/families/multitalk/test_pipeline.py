"""Videos of one person and of two, of MultiTalk and InfiniteTalk, by every door of the contract."""

import dataclasses
import json

import av
import jax
import numpy as np
import pytest
import soundfile

from talkverse_jax.families.multitalk.scenes import scenes_of
from talkverse_jax.families.multitalk.takes import Take
from talkverse_jax.families.multitalk.timeline import heard, make_timeline
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.events import Cancelled, Events
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.pipeline.speech import speech_rows
from talkverse_jax.run.worker import make_clips, make_video
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from tests.families.multitalk.tiny import TINY, write_weights
from tests.second.places import FACE
from tests.sharded import error
from tests.videos import write_video

FRAMES = 29  # of the longer sound: clips of 13 with 5 known make three


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights of both recipes, sounds of 1.16 and 1 second, and a video of two."""
    made = tmp_path_factory.mktemp("multitalk")
    write_weights(made)
    for name, seconds, pitch in (("a", 1.16, 220), ("b", 1.0, 330)):
        times = np.arange(round(seconds * 16_000)) / 16_000
        soundfile.write(made / f"{name}.wav", 0.3 * np.sin(2 * np.pi * pitch * times), 16_000)
    write_video(made / "v.mp4", 2.0, size=(64, 64))
    return made


@pytest.fixture(scope="module", params=["multitalk", "infinitetalk"])
def loaded(request, folder):
    return load(folder / request.param)


def load(weights, **how):
    machine = Machine(dtype="float32", **how.pop("machine", {}))
    return registry.find("multitalk").load_pipeline(Weights(str(weights)), machine, keep_encoders=True, **how)


def job(loaded, folder, name="o", people=2, **values):
    sounds = [str(folder / f"{sound}.wav") for sound in "ab"[:people]]
    made = dict(image=str(FACE), audio=sounds, prompt="They talk.", output=str(folder / f"{name}.mp4"), base_seed=3)
    made |= dict(size_bucket="multitalk-tiny", frame_num=13, motion_frame=5, sample_steps=2)
    return loaded.job(**made | values)


def pictures(loaded, job, inputs=None):
    """The frames that a video shows."""
    encoded = loaded.encode(job, Events(), inputs)
    state, timeline, made = loaded.start(encoded, Events()), loaded.timeline(encoded), []
    while state.clip < timeline.clips:
        [(_, clip, state)] = loaded.advance([state], [Events()])
        made.append(timeline.cut(clip).frames)
    return np.concatenate(made)


def test_a_video_is_as_long_as_its_longest_sound(loaded, folder):
    video = make_video(loaded, job(loaded, folder))
    with av.open(str(video)) as container:
        assert sum(1 for _ in container.decode(video=0)) == FRAMES
    record = json.loads(video.with_suffix(".json").read_text())
    assert (record["frames"], record["clips"], record["family"]) == (FRAMES, 3, "multitalk")


def test_clips_are_counted_as_the_encoder_makes_rows(loaded, folder, tmp_path):
    """The family's record knows them before any model is loaded."""
    family = registry.find("multitalk")
    for samples in (6_400, 15_999, 16_000, 18_559, 18_560, 18_561, 30_000):
        soundfile.write(tmp_path / "x.wav", 0.3 * np.sin(np.arange(samples) / 9), 16_000)
        for length in ("exact", "upstream"):
            one = job(loaded, folder, audio=[str(tmp_path / "x.wav"), "none"], length=length)
            encoded = loaded.encode(one, Events())
            assert family.timeline(one, family.read(one)) == loaded.timeline(encoded)
            [take] = encoded.takes
            assert len(take.features()[0]) == speech_rows(samples)
            if length == "exact":
                assert take.timeline == make_timeline(samples // 640, 13, 5)


def test_a_video_that_ends_early_begins_as_the_whole(loaded, folder):
    """Of the last clip a part is shown, and no further one made."""
    whole = pictures(loaded, job(loaded, folder))
    for ends, frames, clips in (
        ({"seconds": 0.6}, 15, 2),
        ({"num_clip": 1}, 13, 1),
        ({"seconds": 0.5, "num_clip": 2}, 13, 1),
    ):
        part = pictures(loaded, one := job(loaded, folder, **ends))
        np.testing.assert_array_equal(part, whole[:frames])
        assert loaded.timeline(loaded.encode(one, Events())).clips == clips


class StopIn(Events):
    """Asks to stop after so many steps."""

    def __init__(self, steps: int):
        self.left = steps

    def cancelled(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_a_stopped_run_goes_on_to_the_same_bytes(loaded, folder, tmp_path):
    whole, broken = (job(loaded, folder, output=str(tmp_path / f"{name}.mp4")) for name in ("whole", "broken"))
    expected = make_video(loaded, whole).read_bytes()
    with pytest.raises(Cancelled):
        make_video(loaded, broken, StopIn(3))
    clips = list(make_clips(loaded, broken, resume=True))
    assert [clip.index for clip in clips] == [1, 2]
    assert (tmp_path / "broken.mp4").read_bytes() == expected


def test_each_voice_belongs_to_its_place(folder):
    loaded, sounds = load(folder / "multitalk"), [str(folder / f"{name}.wav") for name in "ab"]
    straight, other = (pictures(loaded, job(loaded, folder, audio=audio)) for audio in (sounds, sounds[::-1]))
    assert error(other, straight) > 1e-4


def test_videos_of_a_pack_do_not_depend_on_each_other(folder):
    alone, two = load(folder / "multitalk"), load(folder / "multitalk", pack=2)
    jobs = [job(two, folder, people=1, prompt=prompt) for prompt in ("A.", "Somebody else.")]
    expected = [pictures(alone, one) for one in jobs]
    encoded = [two.encode(one, Events()) for one in jobs]
    states, found = [two.start(one, Events()) for one in encoded], [[], []]
    for _ in range(encoded[0].timeline.clips):
        for place, clip, state in two.advance(list(states), [Events(), Events()]):
            found[place].append(encoded[place].timeline.cut(clip).frames)
            states[place] = state
    assert error(np.concatenate(found[0]), expected[0]) < 1e-4
    assert error(np.concatenate(found[1]), expected[1]) < 1e-4
    assert error(expected[0], expected[1]) > 1e-3


def test_a_scene_is_made_as_if_it_were_all(folder):
    """Each from its own first picture, with its part of the sound; they are as long as the sound together."""
    loaded = load(folder / "infinitetalk")
    whole = job(loaded, folder, people=1, image=str(folder / "v.mp4"), audio_window=0)
    inputs = registry.find("multitalk").read(whole)
    scenes = scenes_of([13], inputs.video.frames, inputs.seconds)
    both = pictures(loaded, whole, dataclasses.replace(inputs, scenes=scenes))
    apart = [pictures(loaded, whole, inputs.of_scene(scene)) for scene in scenes]
    assert [len(part) for part in apart] == [13, FRAMES - 13]
    np.testing.assert_array_equal(both, np.concatenate(apart))


class InOrder:
    """Features whose values are their rows, as a sound has them that is encoded as it is heard."""

    def __len__(self) -> int:
        return 200

    def __getitem__(self, rows):
        assert (np.diff(rows) > 0).all()
        return np.broadcast_to(rows[:, None, None], (len(rows), 2, 16)).astype(np.float32)


def test_the_rows_of_a_clip_are_asked_for_in_order():
    """Though each is heard by several latent frames, and those behind the end in reverse."""
    timeline = make_timeline(203, 81, 25)
    take = Take(None, timeline, lambda: [InOrder(), InOrder()])
    for clip, start in enumerate(timeline.starts):
        rows, windows = heard(start, 81, 200, window=5, stride=4), take.heard(clip, TINY.dit)
        assert windows.later.shape == (2, 20, 8, 2, 16)
        np.testing.assert_array_equal(windows.first[1, :, 0, 0], rows.first)
        np.testing.assert_array_equal(windows.later[1, ..., 1, 3], rows.later)


@pytest.mark.slow
@pytest.mark.parametrize(
    "mesh", ["context=8,ulysses=2", "context=4,tensor=2", "data=2,context=4,ulysses=1", "fsdp=4,context=2"]
)
def test_several_devices_make_what_one_does(loaded, folder, mesh):
    asked = dict(sample_text_guide_scale=1.0) if "data" in mesh else {}
    expected = pictures(loaded, job(loaded, folder, **asked))
    devices = make_mesh(MeshConfig.parse(mesh), jax.devices(), TINY.dit.trunk.num_heads)
    split = load(loaded.weights.weights, mesh=devices)
    assert error(pictures(split, job(split, folder, **asked)), expected) < 1e-3


@pytest.mark.slow
def test_three_branches_on_three_devices(loaded, folder):
    mesh = make_mesh(MeshConfig.parse("data=3,context=2"), jax.devices()[:6], TINY.dit.trunk.num_heads)
    split = load(loaded.weights.weights, mesh=mesh)
    assert error(pictures(split, job(split, folder)), pictures(loaded, job(loaded, folder))) < 1e-3
