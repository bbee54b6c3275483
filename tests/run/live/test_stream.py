"""The loop of a live video, around a pipeline without models."""

import dataclasses
import gc
import threading
import time
import tracemalloc

import numpy as np
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.media.live_writer import Mp4Writer
from talkverse_jax.pipeline.events import Events
from talkverse_jax.pipeline.live_features import ROW
from talkverse_jax.pipeline.machine import Weights
from talkverse_jax.run.live.options import Keeping
from talkverse_jax.run.live.stream import stream
from talkverse_jax.run.video import NotFinite
from tests.run import drawn
from tests.run.live.echo import EVERY, FIRST, Echo, bright, steps


class Whole(drawn.Drawn):
    weights = Weights(weights="there")


class Kept:
    """A writer that keeps how bright the frames are, and the sound."""

    def __init__(self, size):
        assert size == (16, 16)
        self.levels, self.sound, self.closed = [], [], False

    def write(self, frames, sound):
        self.levels += [int(level) for level in frames[:, 0, 0, 0]]
        self.sound.append(sound)

    def close(self):
        self.closed = True


class Nowhere:
    """What is written goes nowhere."""

    def write(self, data):
        return len(data)


class Lines(Events):
    def __init__(self):
        self.lines = []

    def notice(self, text):
        self.lines.append(text)


@pytest.fixture
def made(tmp_path):
    """Runs a live video to its end: the report, the writer, lines and the reports on the way."""

    def run(blocks, pipeline=None, **keeping):
        found, lines, reports = [], Lines(), []

        def writer(size):
            found.append(Kept(size))
            return found[0]

        how = dataclasses.replace(Keeping(patience=30.0), **keeping)
        report = stream(pipeline or Echo(), drawn.job(tmp_path / "a.mp4"), blocks, writer, how, lines, reports.append)
        return report, found[0], lines.lines, reports

    return run


def test_pictures_follow_their_sound_to_its_end(made):
    sound = steps(10)[: 9 * ROW + 100]  # the last frame is only partly heard
    report, writer, lines, reports = made(lambda: iter(np.array_split(sound, 7)))
    assert writer.levels == bright(10) and writer.closed
    np.testing.assert_array_equal(np.concatenate(writer.sound), sound)
    assert report["frames"] == 10 and report["all"] and reports == [report | {"seconds": reports[0]["seconds"]}]
    assert lines[0] == "a picture" and "Listening" in lines[1] and "10 frames" in lines[-1]


def test_the_sound_ends_with_a_clip_or_does_not_come_at_all(made):
    report, writer, _, _ = made(lambda: iter([steps(FIRST + 2 * EVERY)]))
    assert writer.levels == bright(FIRST + 2 * EVERY)
    report, writer, _, _ = made(lambda: iter(()))
    assert writer.levels == [] and writer.closed and report["frames"] == 0


def test_an_idle_face_goes_on_while_nobody_speaks(made):
    said = threading.Event()

    def blocks():
        yield steps(5)
        said.wait(5)

    threading.Timer(0.6, said.set).start()
    report, writer, _, _ = made(blocks, patience=0.0)
    assert writer.levels[:5] == bright(5)
    assert len(writer.levels) > 8 and set(writer.levels[5:]) == {128}
    assert report["silence"] > 0.1


def test_behind_one_can_wait(made):
    report, writer, lines, _ = made(lambda: iter([steps(40)]), Echo(0.01), most_behind=0.2)
    assert writer.levels == bright(40) and report["skipped"] == 0
    assert any("s behind the sound: pictures come that much later" in line for line in lines)
    assert any("caught up" in line for line in lines)


def test_behind_one_can_skip(made):
    def blocks():
        yield steps(40)
        time.sleep(0.2)

    report, writer, lines, _ = made(blocks, Echo(0.01), most_behind=0.2, when_behind="skip", patience=0.0)
    assert report["skipped"] > 1 and any("are left out" in line for line in lines)
    shown = [level for level in writer.levels if level > 128]
    assert shown == sorted(shown) and len(shown) < 25 and shown[-1] == bright(40)[-1]
    assert sum(map(len, writer.sound)) == pytest.approx(len(writer.levels) * ROW, abs=2 * ROW)


def test_latency_and_its_parts(made):
    report, _, _, reports = made(lambda: iter([steps(41)]), Echo(0.02), report_every=0.1)
    assert [each["all"] for each in reports][-1] and len(reports) > 2
    parts = report["parts"]
    assert parts["denoising"] == pytest.approx(0.02, abs=0.01) and parts["motion"] < 0.01
    assert parts["sound"] == pytest.approx(EVERY / 25 + 0.12, abs=0.02)
    assert report["latency"] == pytest.approx(sum(parts.values()) - parts["motion"], abs=0.01)
    assert 40 < report["frames_a_second"] < 120


def test_what_cannot_go_on_is_said(made):
    def unplugged():
        yield steps(2)
        raise UserError("microphone: unplugged; plug it in")

    with pytest.raises(UserError, match="unplugged"):
        made(unplugged)
    broken = Echo()
    broken.broken = True
    with pytest.raises(NotFinite, match="clip 1"):
        made(lambda: iter([steps(20)]), broken)
    with pytest.raises(UserError, match="need their whole sound"):
        made(lambda: iter(()), Whole())


class Counted(Events):
    """What is allocated at each report."""

    def __init__(self):
        self.held = []

    def notice(self, text):
        gc.collect()
        self.held.append(tracemalloc.get_traced_memory()[0])


@pytest.mark.slow
def test_memory_does_not_grow(tmp_path):
    def blocks():
        for _ in range(100):
            yield steps(10 * EVERY)

    def writer(size):
        return Mp4Writer(Nowhere(), size, 16_000)

    tracemalloc.start()
    try:
        counted, keeping = Counted(), Keeping(report_every=0.5, most_behind=1e9, patience=30)
        report = stream(Echo(), drawn.job(tmp_path / "a.mp4"), blocks, writer, keeping, counted)
    finally:
        tracemalloc.stop()
    assert report["clips"] > 1000 and len(counted.held) > 8
    quarter = len(counted.held) // 4
    assert max(counted.held[-quarter:]) < max(counted.held[quarter:-quarter]) + 50_000
