"""Scenes of a video: which pictures and which part of the sound belong together."""

import sys
import types

import numpy as np
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.families.multitalk import scenes
from talkverse_jax.families.multitalk.scenes import SourceScene, find_cuts, scenes_of
from talkverse_jax.families.multitalk.voices import HEARD
from tests.families.multitalk.test_inputs import heard, place, read_job, weights  # noqa: F401
from tests.videos import read_number, write_video


@pytest.mark.parametrize(
    "cuts, frames, seconds, expected",
    [
        ([], 100, 4.0, [SourceScene(2, 98, 0.0, 4.0)]),
        (
            [50, 75],
            100,
            4.0,
            [SourceScene(2, 48, 0, 2.0), SourceScene(52, 73, 2.0, 3.0), SourceScene(77, 98, 3.0, 4)],
        ),
        # half a second is no scene: its sound goes to the one before, and those behind keep their own
        ([50, 62], 100, 4.0, [SourceScene(2, 48, 0.0, 2.48), SourceScene(64, 98, 2.48, 4.0)]),
        ([12, 50], 100, 4.0, [SourceScene(14, 48, 0.0, 2.0), SourceScene(52, 98, 2.0, 4.0)]),
        ([50, 90], 100, 4.0, [SourceScene(2, 48, 0.0, 2.0), SourceScene(52, 88, 2.0, 4.0)]),
        # a longer sound goes on with the last scene, a shorter one needs fewer
        ([50], 100, 9.0, [SourceScene(2, 48, 0.0, 2.0), SourceScene(52, 98, 2.0, 9.0)]),
        ([50], 100, 1.5, [SourceScene(2, 48, 0.0, 1.5)]),
        ([0, 50, 50, 100], 100, 4.0, [SourceScene(2, 48, 0.0, 2.0), SourceScene(52, 98, 2.0, 4.0)]),
        ([], 3, 4.0, [SourceScene(0, 3, 0.0, 4.0)]),
    ],
)
def test_each_scene_has_its_sound(cuts, frames, seconds, expected):
    assert list(scenes_of(cuts, frames, seconds)) == expected


def test_all_of_the_sound_goes_with_a_scene_whatever_the_cuts():
    rng = np.random.default_rng(0)
    for _ in range(200):
        frames, seconds = int(rng.integers(1, 300)), float(rng.uniform(0.1, 14))
        found = scenes_of(rng.integers(0, 301, rng.integers(0, 12)).tolist(), frames, seconds)
        assert found[0].begin == 0 and found[-1].end == seconds
        assert [scene.begin for scene in found[1:]] == [scene.end for scene in found[:-1]]
        assert all(scene.begin < scene.end and 0 <= scene.first < scene.stop <= frames for scene in found)
        assert all(scene.stop <= after.first for scene, after in zip(found, found[1:]))


def test_behind_a_scene_s_end_its_last_picture_stands():
    assert [SourceScene(52, 73, 2.0, 3.0).picture(frame) for frame in (0, 20, 21, 500)] == [52, 72, 72, 72]


class Jumps:
    """A detector that finds a cut where the red channel jumps, one picture late; and one behind the end."""

    def __init__(self):
        self.before = None

    def process_frame(self, time, bgr):
        red, before = int(bgr[0, 0, 2]), self.before
        self.before = red
        return [time] if before is not None and abs(red - before) > 50 else []

    def post_process(self, time):
        return [types.SimpleNamespace(frame_num=time.frame_num + 1)]


@pytest.fixture
def library(monkeypatch):
    """Stands for PySceneDetect, by its names."""
    module = types.SimpleNamespace(
        ContentDetector=Jumps,
        AdaptiveDetector=Jumps,
        ThresholdDetector=Jumps,
        FrameTimecode=lambda number, fps: types.SimpleNamespace(frame_num=number, fps=fps),
    )
    monkeypatch.setitem(sys.modules, "scenedetect", module)


def test_cuts_of_all_detectors_are_told_once(library):
    pictures = [np.full((4, 4, 3), (red, 0, 200), np.uint8) for red in [0] * 5 + [100] * 3 + [0] * 2]
    assert find_cuts(iter(pictures)) == [5, 8, 10]
    assert find_cuts(iter([])) == []


def test_without_the_library_it_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    with pytest.raises(UserError) as error:
        find_cuts(iter([]))
    assert str(error.value) == "--scene_seg needs PySceneDetect: pip install talkverse_jax[scenes]"


def test_what_a_scene_is_made_of(place, weights, monkeypatch):  # noqa: F811
    weights("dit", recipe="infinitetalk")
    monkeypatch.setattr(scenes, "find_cuts", lambda pictures: [15] if len(list(pictures)) == 30 else [])
    write_video(place / "film.mp4", 1.2, size=(64, 64))
    found = read_job(place, "a.wav", "b.wav", image="film.mp4", scene_seg=True)
    assert found.scenes == (SourceScene(2, 13, 0.0, 0.6), SourceScene(17, 28, 0.6, 1.0))
    assert f"{place / 'film.mp4'}: 2 scenes, each made on its own" in found.notices
    second = found.of_scene(found.scenes[1])
    assert [read_number(second.reference(frame)) for frame in (0, 5, 40)] == [17, 22, 27]
    np.testing.assert_array_equal(second.picture, second.reference(0))
    assert second.voices[0].duration == pytest.approx(0.4) and second.track is found.track
    for part, whole in zip(second.voices, found.voices):
        np.testing.assert_array_equal(heard(part), heard(whole)[round(0.6 * HEARD) :])
    first = found.of_scene(found.scenes[0])
    np.testing.assert_array_equal(heard(first.voices[1]), heard(found.voices[1])[: round(0.6 * HEARD)])


def test_without_the_flag_all_is_one(place, weights):  # noqa: F811
    weights("dit", recipe="infinitetalk")
    write_video(place / "film.mp4", 0.4, size=(64, 64))
    found = read_job(place, "a.wav", image="film.mp4")
    assert found.scenes == () and found.scene is None
