import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.data import loader
from talkverse_jax.data.batches import BatchOrder, SampleId, WindowShape
from talkverse_jax.data.catalogue import VideoRules, make_catalogue
from talkverse_jax.data.loader import batches
from talkverse_jax.data.metadata import read_metadata
from talkverse_jax.data.raw import RawSource
from talkverse_jax.data.skipped import Skipped
from talkverse_jax.data.windows import Lengths
from talkverse_jax.media.bad_sample import BadSample
from talkverse_jax.models.vae.config import VAEConfig
from tests.videos import write_dataset

LENGTHS = Lengths(num_frames=8, motion_frames=9, strides=VAEConfig.wan22().strides)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Five videos of three shapes, and batches of two."""
    folder = tmp_path_factory.mktemp("data")
    metadata = write_dataset(folder, 5, [1.2, 0.5], [(128, 128), (128, 128), (160, 128)])
    rules = VideoRules("tiny-128", LENGTHS, roi=True)
    made = make_catalogue(read_metadata([str(metadata)], str(folder)), rules)
    assert len(set(made.shapes)) == 3
    return RawSource(made.entries, 0, LENGTHS, roi=True), BatchOrder(made.shapes, 2, seed=0)


def read(made, count, **options):
    """The first batches, and the loader closed."""
    reading = batches(*made, Skipped(None), **options)
    try:
        return list(islice(reading, count))
    finally:
        reading.close()


def assert_same(ours, theirs):
    assert [loaded.batch for loaded in ours] == [loaded.batch for loaded in theirs]
    for one, two in zip(ours, theirs):
        assert all(np.array_equal(a, b) for a, b in zip(one.samples, two.samples))


def test_batches_come_in_order(raw):
    source, plan = raw
    for number, (batch, samples) in enumerate(read(raw, 6)):
        assert batch == plan[number]
        np.testing.assert_array_equal(samples.id, batch.samples)
        window = source.lengths.window(batch.shape.kind)
        assert samples.video.shape == (2, window, batch.shape.height, batch.shape.width, 3)
        assert samples.weight.tolist() == [1, 1]


def test_workers_threads_and_the_place_to_begin_change_nothing(raw):
    straight = read(raw, 6, threads=1)
    assert_same(read(raw, 6, threads=4), straight)
    assert_same(read(raw, 4, first=2), straight[2:])
    assert_same(read(raw, 4, first=2, workers=2), straight[2:])


def test_a_process_reads_its_rows(raw):
    whole = read(raw, 4)
    for row in range(2):
        for own, all_rows in zip(read(raw, 4, rows=[row]), whole):
            assert own.batch == all_rows.batch
            np.testing.assert_array_equal(own.samples.video, all_rows.samples.video[row : row + 1])
            np.testing.assert_array_equal(own.samples.id, all_rows.samples.id[row : row + 1])


class Facts(NamedTuple):
    """A sample, who read it, and how many of JAX's backends were started there."""

    id: SampleId
    weight: float
    process: int
    backends: int


class Numbers:
    """A source without videos; the samples in `bad` cannot be read, and at `fatal` its process dies."""

    def __init__(self, bad=(), fatal=()):
        self.bad, self.fatal = bad, fatal

    def name(self, sample):
        return f"video {sample}"

    def load(self, id, shape):
        import jax

        if id.sample in self.bad:
            raise BadSample("no sound", "not a bit")
        if id in self.fatal:
            os._exit(3)
        return Facts(id, 1.0, os.getpid(), len(jax._src.xla_bridge._backends))

    def blank(self, id, shape):
        return Facts(id, 0.0, 0, 0)

    def stack(self, samples):
        return Facts(*map(np.array, zip(*samples)))


SHAPES = [WindowShape(128, 128, "motion")] * 40


def test_bad_samples_weigh_nothing_and_are_listed(tmp_path):
    plan, skipped = BatchOrder(SHAPES, 4, seed=0), Skipped(tmp_path / "skipped.jsonl")
    reading = islice(batches(Numbers(bad={7}), plan, skipped), 10)
    for batch, samples in reading:
        expected = [float(id.sample != 7) for id in batch.samples]
        assert samples.weight.tolist() == expected
        np.testing.assert_array_equal(samples.id, batch.samples)
    [line] = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert line == {"name": "video 7", "reason": "no sound", "detail": "not a bit", "epoch": 0, "sample": 7}
    assert skipped.counts == {"no sound": 1}
    assert skipped.seen == 40


def test_too_many_bad_samples_stop_the_reading():
    plan = BatchOrder(SHAPES, 4, seed=0)
    with pytest.raises(UserError, match=r"of \d+ samples cannot be used \(no sound: "):
        for _ in islice(batches(Numbers(bad=range(0, 40, 4)), plan, Skipped(None)), 20):
            pass


def test_a_killed_worker_is_replaced(tmp_path):
    plan, said, skipped = BatchOrder(SHAPES, 4, seed=0), [], Skipped(tmp_path / "skipped.jsonl")
    reading = batches(Numbers(bad={7}), plan, skipped, workers=2, say=said.append)
    try:
        seen = list(islice(reading, 3))
        victim = max(seen[-1].samples.process)
        assert victim != os.getpid()
        os.kill(victim, signal.SIGKILL)
        while not said:
            seen.append(next(reading))
        seen += islice(reading, 3)
    finally:
        reading.close()
    assert [loaded.batch for loaded in seen] == [plan[number] for number in range(len(seen))]
    for batch, samples in seen:
        np.testing.assert_array_equal(samples.id, batch.samples)
        assert not samples.backends.any()  # a worker must not take the accelerator
    assert len(said) == 1
    assert "a data worker died; reading starts again at batch" in said[0]
    assert skipped.seen == 4 * len(seen)
    assert victim not in seen[-1].samples.process


def alive(process: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False


def test_workers_end_with_a_killed_program(tmp_path):
    program = """
        import sys, time
        from pathlib import Path
        from talkverse_jax.data.batches import BatchOrder
        from talkverse_jax.data.loader import batches
        from talkverse_jax.data.skipped import Skipped
        from tests.data.test_loader import Numbers, SHAPES
        if __name__ == "__main__":
            reading = batches(Numbers(), BatchOrder(SHAPES, 4, seed=0), Skipped(None), workers=2)
            seen = [next(reading) for _ in range(3)]
            print(*sorted({int(p) for loaded in seen for p in loaded.samples.process}), flush=True)
            time.sleep(60)
        """
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(program))
    environ = os.environ | {"PYTHONPATH": os.getcwd()}
    running = subprocess.Popen([sys.executable, str(path)], stdout=subprocess.PIPE, text=True, env=environ)
    workers = [int(word) for word in running.stdout.readline().split()]
    running.kill()
    running.wait()
    assert len(workers) == 2
    until = time.monotonic() + 20
    while any(alive(worker) for worker in workers):
        assert time.monotonic() < until, "left behind"
        time.sleep(0.05)


def test_workers_that_keep_dying_stop_the_reading(monkeypatch):
    monkeypatch.setattr(loader, "_RESTARTS", 1)
    plan, said, seen = BatchOrder(SHAPES, 4, seed=0), [], []
    source = Numbers(fatal={plan[1].samples[2]})
    with pytest.raises(UserError, match=r"died 2 times running at batch [01] .*exit code 3.*--num_workers"):
        for loaded in batches(source, plan, Skipped(None), workers=1, say=said.append):
            seen.append(loaded.batch.number)
    assert seen in ([], [0])  # what a dying worker had ready may be lost with it
    assert 1 <= len(said) <= 2


@pytest.mark.parametrize("workers", [0, 1])
def test_whatever_a_sample_raises_is_one_sample(tmp_path, workers):
    plan, skipped = BatchOrder(SHAPES, 4, seed=0), Skipped(tmp_path / "skipped.jsonl")
    weights = [
        float(weight)
        for _, samples in islice(batches(Wrong({3}), plan, skipped, workers=workers), 10)
        for weight in samples.weight
    ]
    assert sorted(weights) == [0.0] + [1.0] * 39 and skipped.counts == {"IndexError": 1}
    [line] = map(json.loads, skipped.path.read_text().splitlines())
    assert line["detail"] == "a mistake" and "Traceback" in line["trace"]


def test_faults_of_the_program_stop_the_reading_with_their_name():
    with pytest.raises(UserError, match=r"\(IndexError: \d+\)"):
        for _ in batches(Wrong(set(range(40))), BatchOrder(SHAPES, 4, seed=0), Skipped(None)):
            pass


class Wrong(Numbers):
    def load(self, id, shape):
        if id.sample in self.bad:
            raise IndexError("a mistake")
        return super().load(id, shape)
