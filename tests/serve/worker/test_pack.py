"""Jobs that share their steps, by a pipeline that draws: none depends on the others."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from talkverse_jax.pipeline.clip import Clip
from talkverse_jax.pipeline.events import Together
from talkverse_jax.run.worker import make_video
from talkverse_jax.serve.worker.pack import Pack
from tests.processes import ROOT
from tests.run.batch.drawn import DrawnPipeline

_STEPS = 3


class Stepping(DrawnPipeline):
    """First clips are of another stage than later ones.

    Attributes:
      shared: the prompts of those that were advanced together, and the number of places.
      acts: what happens in the steps of a video, by its prompt.
      behind: what is made of its clip.
    """

    def __init__(self, pack=1):
        super().__init__(pack)
        self.shared, self.acts, self.behind, self.on_step = [], {}, {}, lambda index: None

    def stage(self, state):
        return state.clip > 0

    def save(self, state):
        return {"clip": np.array(state.clip)}

    def advance(self, states, events):
        there = [state.encoded.job.settings.prompt for state in states if state is not None]
        self.shared.append((there, len(states)))
        together = Together(events)
        with together.phase("denoising"):
            for index in range(_STEPS):
                self.on_step(index)
                for prompt in there:
                    self.acts.get(prompt, lambda: None)()
                together.stepped(index, _STEPS)
        for place, clip, state in super().advance(states, events):
            with events[place].phase("decoding"):
                make = self.behind.get(state.encoded.job.settings.prompt, lambda clip: clip)
            yield place, make(clip), state


class Jobs:
    """A pack, and requests for it."""

    def __init__(self, folder: Path, size: int):
        self._folder = folder
        self.pipeline, self.said, self.stopped = Stepping(size), [], set()
        self.pack = Pack(self.pipeline, self.said.append, self.stopped)
        self.walls: dict[str, Any] = {}  # of jobs to come
        self._count = 0

    def request(self, name: str, clip: int | None, seconds: float = 0.52) -> dict:
        """For a clip of a job, which is new or known, of three clips."""
        folder = self._folder / name
        if not folder.exists():
            folder.mkdir()
            shutil.copy(ROOT / "assets/face.png", folder / "image")
            soundfile.write(folder / "audio", 0.1 * np.sin(np.arange(round(16000 * seconds)) / 9), 16000, format="WAV")
        self._count += 1
        settings = {"prompt": name, "size_bucket": "tiny-128", "base_seed": len(name), **self.walls}
        files = {"image": "image", "audio": "audio"}
        of_job = {"job": name, "folder": str(folder), "files": files, "settings": settings}
        return {**of_job, "request": self._count, "clip": clip}

    def make(self, **clips: int | None) -> dict[str, dict]:
        """What is answered, by job."""
        requests = [self.request(name, clip) for name, clip in clips.items()]
        self.pack.make(requests, clips)
        numbers = {each["request"]: each["job"] for each in requests}
        answers = [each for each in self.said if each.get("request") in numbers]
        assert len(answers) == len(requests), "each has one answer"
        return {numbers[each["request"]]: each for each in answers}

    def video(self, name: str) -> bytes:
        return (self._folder / name / "video.mp4").read_bytes()


@pytest.fixture
def jobs(tmp_path):
    return Jobs(tmp_path, 3)


def _codes(answers):
    return {name: answer.get("code", answer["say"]) for name, answer in answers.items()}


def test_steps_are_shared_and_bytes_are_not_told_apart(jobs, tmp_path):
    assert _codes(jobs.make(a=1, bb=1)) == {"a": "clip", "bb": "clip"}
    jobs.make(a=2, bb=2, ccc=1)
    jobs.make(a=3, bb=3, ccc=2)
    assert _codes(jobs.make(a=None)) == {"a": "finished"}
    jobs.make(ccc=3)
    expected = [["a", "bb"], ["a", "bb"], ["ccc"], ["a", "bb", "ccc"], ["ccc"]]
    assert jobs.pipeline.shared == [(each, 3) for each in expected]
    for name in ("a", "bb", "ccc"):
        settings, folder, pipeline = jobs.request(name, 1)["settings"], tmp_path / name, DrawnPipeline()
        files = {"image": str(folder / "image"), "audio": str(folder / "audio")}
        job = pipeline.job(output=str(tmp_path / f"{name}.mp4"), **settings, **files)
        assert make_video(pipeline, job).read_bytes() == jobs.video(name)


def test_a_clip_that_is_there_is_told_and_one_that_is_lost_made_again(jobs):
    jobs.make(a=2)
    assert len(jobs.pipeline.shared) == 2
    jobs.pack.leave("a")
    assert jobs.make(a=1)["a"]["frames"] == 5 and jobs.make(a=2)["a"]["frames"] == 10
    assert len(jobs.pipeline.shared) == 2


def test_a_clip_that_is_not_finite_ends_its_job(jobs):
    jobs.pipeline.behind["a"] = lambda clip: Clip(clip.index, clip.frames, clip.latents * np.nan)
    assert _codes(jobs.make(a=1, bb=1)) == {"a": "not_finite", "bb": "clip"}


def test_an_error_in_shared_steps_ends_the_job_whose_it_is(jobs):
    jobs.make(a=1, bb=1, ccc=1)

    def fail():
        raise OSError("gone")

    jobs.pipeline.acts["bb"] = fail
    assert _codes(jobs.make(a=2, bb=2, ccc=2)) == {"a": "clip", "bb": "generation_failed", "ccc": "clip"}
    assert jobs.pipeline.shared[1:] == [(each, 3) for each in (["a", "bb", "ccc"], ["a"], ["bb"], ["ccc"])]


def test_files_are_read_within_the_walls_of_their_admission(jobs):
    jobs.walls = {"file_kinds": "web", "max_pixels": 512 * 512, "max_seconds": 1}
    assert _codes(jobs.make(a=1)) == {"a": "clip"}
    jobs.walls["max_pixels"] -= 1
    assert _codes(jobs.make(bb=1)) == {"bb": "generation_failed"}


def test_lost_files_end_their_job(jobs, tmp_path):
    jobs.request("a", 1)
    (tmp_path / "a" / "audio").unlink()
    answers = jobs.make(a=1, bb=1)
    assert _codes(answers) == {"a": "input_lost", "bb": "clip"} and answers["a"]["param"] == "audio"


def test_out_of_memory_ends_all_and_says_what_helps(jobs):
    def fail():
        raise MemoryError

    jobs.pipeline.acts["a"] = fail
    answers = jobs.make(a=1, bb=1)
    assert _codes(answers) == {"a": "out_of_memory", "bb": "out_of_memory"}
    assert "--pack_size below 3" in answers["bb"]["message"]


def test_one_is_left_at_the_end_of_a_step_and_the_others_go_on(jobs):
    def stop(index):
        if index == 1:
            jobs.stopped.add("a")
        elif index == 2:
            assert [each["say"] for each in jobs.said if "request" in each] == ["stopped"]

    jobs.pipeline.on_step = stop
    assert _codes(jobs.make(a=1, bb=1)) == {"a": "stopped", "bb": "clip"}
    jobs.pipeline.on_step = lambda index: jobs.stopped.add("bb")
    assert _codes(jobs.make(bb=2)) == {"bb": "stopped"}


def test_when_all_are_stopped_nothing_more_is_done(jobs):
    steps = []
    jobs.pipeline.on_step = lambda index: steps.append(jobs.stopped.update({"a", "bb"}))
    assert _codes(jobs.make(a=1, bb=1)) == {"a": "stopped", "bb": "stopped"}
    assert len(steps) == 1
