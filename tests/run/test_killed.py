"""Killed at any moment, a run loses no clip that was finished, and leaves nothing that the next one does not clear up.
What is damaged is told."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.pipeline.events import Events
from talkverse_jax.run.resume import load, state_file
from talkverse_jax.run.worker import make_clips, make_video
from tests.run.drawn import CLIPS, Drawn, job

STEPS = ("replace", "fsync", "unlink")


class Moments:
    """Copies of a folder as it was before each step that changes names or waits for the disk; those that are alike,
    once."""

    def __init__(self, folder: Path, to: Path, monkeypatch):
        self.found: list[Path] = []
        self._folder, self._to, self._last = folder, to, None
        for name in STEPS:
            monkeypatch.setattr(os, name, self._noting(getattr(os, name)))

    def _noting(self, step):
        def noted(*args, **named):
            now = {path.name: path.read_bytes() for path in self._folder.iterdir()}
            if now != self._last:
                self._last = now
                self.found.append(shutil.copytree(self._folder, self._to / str(len(self.found))))
            return step(*args, **named)

        return noted


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a video that nothing disturbed."""
    path = tmp_path_factory.mktemp("whole") / "talk.mp4"
    make_video(Drawn(), job(path))
    return path.read_bytes()


def stop_after(clips: int, output: Path, **changes) -> None:
    made = make_clips(Drawn(), job(output, **changes))
    for _ in range(clips):
        next(made)
    made.close()


def moments(folder: Path, to: Path, **how) -> list[Path]:
    """The folder at each moment of a run, and at its end."""
    with pytest.MonkeyPatch.context() as patched:
        found = Moments(folder, to, patched).found
        make_video(Drawn(), job(folder / "talk.mp4"), **how)
    return [*found, folder]


def files_in(folder: Path) -> set[str]:
    return set(os.listdir(folder))


@pytest.mark.parametrize("begun", [0, 2], ids=["begun", "gone on with"])
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path, whole, begun):
    (tmp_path / "at").mkdir()
    if begun:
        stop_after(begun, tmp_path / "at/talk.mp4")
    killed = moments(tmp_path / "at", tmp_path / "killed", resume=bool(begun))
    assert len(killed) > 10
    most = CLIPS - begun
    for folder in killed:
        was, pipeline = files_in(folder), Drawn()
        make_video(pipeline, job(folder / "talk.mp4"), resume=True)
        assert (folder / "talk.mp4").read_bytes() == whole, was
        assert files_in(folder) == {"talk.mp4", "talk.json"}, was
        assert json.loads((folder / "talk.json").read_text())["bytes"] == len(whole)
        assert len(pipeline.made) <= most, was  # what was finished once is not made again
        most = len(pipeline.made)
    assert most == 0


def test_killed_between_the_video_and_its_record_nothing_is_made_again(tmp_path, whole):
    (tmp_path / "at").mkdir()
    killed = moments(tmp_path / "at", tmp_path / "killed")
    between = [folder for folder in killed if "talk.mp4" in files_in(folder) and "talk.json" not in files_in(folder)]
    assert between
    for folder in between:
        pipeline = Drawn()
        make_video(pipeline, job(folder / "talk.mp4"), resume=True)
        assert not pipeline.made and (folder / "talk.mp4").read_bytes() == whole


@pytest.mark.parametrize("text", ["{", '{"talkverse_jax": "1", "settings": {}}', "[" * 100_000])
def test_a_record_that_was_cut_short_before_it_was_in_place_is_nothing(tmp_path, whole, text):
    stop_after(2, tmp_path / "talk.mp4")
    (tmp_path / "talk.json.partial").write_text(text)
    (tmp_path / "talk.finishing.mp4").write_bytes(whole[:-100])
    pipeline = Drawn()
    make_video(pipeline, job(tmp_path / "talk.mp4"), resume=True)
    assert pipeline.made == [2] and (tmp_path / "talk.mp4").read_bytes() == whole
    assert files_in(tmp_path) == {"talk.mp4", "talk.json"}


def test_killed_over_an_older_video_it_begins_again_without_a_stray_file(tmp_path, whole):
    """The older one is whole, with its own record, until the new one takes its place."""
    (tmp_path / "at").mkdir()
    make_video(Drawn(), job(tmp_path / "at/talk.mp4", prompt="A man."))
    older = (tmp_path / "at/talk.mp4").read_bytes()
    killed = moments(tmp_path / "at", tmp_path / "killed")
    for folder in killed:
        was, there = files_in(folder), (folder / "talk.mp4").read_bytes()
        prompt = json.loads((folder / "talk.json").read_text())["settings"]["prompt"]
        assert there == (older if prompt == "A man." else whole) or "talk.json.partial" in was
        make_video(Drawn(), job(folder / "talk.mp4"))
        assert (folder / "talk.mp4").read_bytes() == whole and files_in(folder) == {"talk.mp4", "talk.json"}, was


def test_what_is_told_is_on_the_disk(tmp_path, monkeypatch):
    """Write, sync, rename, sync of the folder; the video before its record, a clip before the state of it."""
    done, sizes = [], {}
    replace, fsync = os.replace, os.fsync

    def note_sync(handle):
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        sizes[path.name] = path.stat().st_size
        done.append(f"sync {path.name}" if path.is_file() else "sync folder")
        fsync(handle)

    def note_rename(old, new):
        assert Path(old).stat().st_size == sizes[Path(old).name]  # nothing was written since
        done.append(f"{Path(old).name} -> {Path(new).name}")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_rename)
    make_video(Drawn(), job(tmp_path / "talk.mp4"))
    clip = ["sync talk.partial.mp4", "sync folder"]
    state = ["sync talk.partial.npz.partial", "talk.partial.npz.partial -> talk.partial.npz", "sync folder"]
    ready = ["sync talk.finishing.mp4", "sync talk.json.partial"]
    video = ["sync talk.finishing.mp4", "talk.finishing.mp4 -> talk.mp4", "sync folder"]
    record = ["sync talk.json.partial", "talk.json.partial -> talk.json", "sync folder"]
    assert done == (clip + state) * (CLIPS - 1) + clip + ready + video + record


class Said(Events):
    def __init__(self):
        self.notices = []

    def notice(self, text):
        self.notices.append(text)


LOST = {
    "empty": (lambda data: b"", "has 0 bytes of "),
    "cut short": (lambda data: data[:-1000], " bytes of "),
    "zeros": (lambda data: bytes(len(data)), "is no whole mp4"),
}


@pytest.mark.parametrize("change, told", LOST.values(), ids=LOST)
def test_a_video_that_is_not_whole_is_made_again(tmp_path, whole, change, told):
    output = tmp_path / "talk.mp4"
    make_video(Drawn(), job(output))
    output.write_bytes(change(whole))
    pipeline, said = Drawn(), Said()
    make_video(pipeline, job(output), said, resume=True)
    assert output.read_bytes() == whole and len(pipeline.made) == CLIPS
    [line] = [line for line in said.notices if "it is made again" in line]
    assert line.startswith(f"{output}: ") and told in line
    make_video(pipeline, job(output), said, resume=True)
    assert said.notices[-1] == f"{output} is finished already" and len(pipeline.made) == CLIPS


def test_a_record_without_a_length_is_of_an_older_program(tmp_path, whole):
    output = tmp_path / "talk.mp4"
    make_video(Drawn(), job(output))
    record = json.loads((tmp_path / "talk.json").read_text())
    del record["bytes"]
    for data, clips in ((whole, 0), (whole[:-1000], CLIPS)):
        (tmp_path / "talk.json").write_text(json.dumps(record))
        output.write_bytes(data)
        pipeline = Drawn()
        make_video(pipeline, job(output), resume=True)
        assert len(pipeline.made) == clips and output.read_bytes() == whole


def test_flipped_bits_of_the_state_are_told(tmp_path):
    output = tmp_path / "talk.mp4"
    stop_after(2, output)
    file, rng = state_file(output), np.random.default_rng(0)
    data, told = file.read_bytes(), 0
    expected = load(output, job(output))
    assert expected and expected.clip == 2
    for bit in rng.integers(0, 8 * len(data), 200):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        try:
            found = load(output, job(output))
        except UserError as error:
            told += str(error) == f"{file}: damaged; leave out --resume to begin again"
        else:  # in what is not read
            assert found and found.made_from == expected.made_from and found.clip == expected.clip
            np.testing.assert_array_equal(found.saved["before"], expected.saved["before"])
            told += 1
    assert told == 200
    for length in (0, 1, 70, len(data) // 2, len(data) - 1):
        file.write_bytes(data[:length])
        with pytest.raises(UserError, match="damaged"):
            load(output, job(output))


def test_the_state_of_an_older_program_has_no_digest(tmp_path, whole):
    output = tmp_path / "talk.mp4"
    stop_after(2, output)
    data = state_file(output).read_bytes()
    state_file(output).write_bytes(data[: data.rindex(b"\nsha256 ")])
    pipeline = Drawn()
    make_video(pipeline, job(output), resume=True)
    assert pipeline.made == [2] and output.read_bytes() == whole


def test_flipped_bits_of_the_unfinished_video_are_told(tmp_path, whole):
    """Or they change nothing."""
    output = tmp_path / "talk.mp4"
    stop_after(2, output)
    left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    rng, told = np.random.default_rng(0), 0
    for bit in rng.integers(0, 8 * len(left["talk.partial.mp4"]), 20):
        for path in tmp_path.iterdir():
            path.unlink()
        flipped = bytearray(left["talk.partial.mp4"])
        flipped[bit // 8] ^= 1 << bit % 8
        for name, data in (left | {"talk.partial.mp4": flipped}).items():
            (tmp_path / name).write_bytes(data)
        try:
            make_video(Drawn(), job(output), resume=True)
        except UserError as error:
            told += "talk.partial.mp4: " in str(error) and "leave out --resume" in str(error)
        else:
            assert output.read_bytes() == whole
            told += 1
    assert told == 20
