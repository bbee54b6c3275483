"""Videos become shards: whole, in parts, killed, with what cannot be read left out."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from talkverse_jax.cli.flags import parse
from talkverse_jax.core.errors import UserError
from talkverse_jax.data.batches import SampleId, WindowShape
from talkverse_jax.data.catalogue import VideoRules, make_catalogue
from talkverse_jax.data.identity import Identity
from talkverse_jax.data.ledger import Ledger, Listed
from talkverse_jax.data.metadata import read_metadata
from talkverse_jax.data.prepared import PreparedBatch, unstack
from talkverse_jax.data.raw import RawSource
from talkverse_jax.data.shards import ShardSource
from talkverse_jax.data.skipped import Skipped
from talkverse_jax.data.windows import Lengths
from talkverse_jax.families.talkverse import settings
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.families.talkverse.sample_encoder import WindowEncoder
from talkverse_jax.families.talkverse.training import TRAINING, to_batch
from talkverse_jax.models.vae.config import VAEConfig
from talkverse_jax.training.prepare import _encoded, divide, prepare
from talkverse_jax.training.prepare_options import PrepareOptions, prepare_groups
from tests.videos import write_csv, write_dataset, write_video

LENGTHS = Lengths(num_frames=8, motion_frames=73, strides=VAEConfig.wan22().strides)
ARRAYS = ("target", "motion", "reference", "audio", "text", "face", "body")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Clips 0 and 2 have motion frames, clips 1 and 3 are too short for them."""
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, 4, [5.0, 2.0])
    return folder


def make_flags(weights, data, output, /, **more) -> dict:
    return {
        "weights": weights,
        "dataset_metadata_path": data / "metadata.csv",
        "dataset_base_path": data,
        "output": output,
        "size_bucket": "tiny-128",
        "num_frames": 8,
        "enable_roi_loss": True,
        "windows": 2,
        "shard_size": 2,
        "num_workers": 0,
    } | more


def make_options(*where, **more) -> PrepareOptions:
    flags = make_flags(*where, **more)
    return PrepareOptions(**parse(prepare_groups(settings), "prepare", "", arguments(flags)))


def open_shards(folder, weights) -> ShardSource:
    return ShardSource(folder, TRAINING.samples, FAMILY.configs_from_weights(weights))


def arguments(flags: dict) -> list[str]:
    return [part for name, value in flags.items() for part in (f"--{name}", str(value))]


def listed(*shapes: WindowShape) -> list[Listed]:
    return [Listed(Identity(f"video {n}", "", ""), f"clip{n}", shape) for n, shape in enumerate(shapes)]


@pytest.fixture(scope="module")
def prepared(tiny_weights, data, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared")
    assert prepare(make_options(tiny_weights, data, output))
    return output


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.array_record")}


def test_shards_hold_windows_of_one_shape():
    a, b = WindowShape(32, 32, "motion"), WindowShape(32, 32, "short")
    made = divide(Ledger.of(listed(b, a, b, a, a)).members, windows=2, size=4)
    assert [shard.shape for shard in made] == [a, a, b]
    assert [shard.number for shard in made] == [0, 1, 2]
    assert made[0].ids == ((0, 1), (1, 1), (0, 3), (1, 3))
    assert made[1].ids == ((0, 4), (1, 4))
    assert [len(part) for part in made[0].batches(3)] == [3, 3]
    assert made[0].batches(3)[1][0] == (1, 3) and len(set(made[0].batches(3)[1][1:])) == 1


def test_samples_are_those_of_the_videos(prepared, tiny_weights, data):
    rows = read_metadata([str(data / "metadata.csv")], str(data))
    catalogue = make_catalogue(rows, VideoRules("tiny-128", LENGTHS, roi=True))
    raw = RawSource(catalogue.entries, 0, LENGTHS, roi=True)
    encoder, source = WindowEncoder.load(tiny_weights, settings.WindowSettings()), open_shards(prepared, tiny_weights)
    assert [(r.sample, r.window) for r in source.records] == [(s, w) for s in range(4) for w in range(2)]
    assert [r.kind for r in source.records] == ["motion", "motion", "short", "short"] * 2
    for number in (5, 2):
        record, shape = source.records[number], source.shapes[number]
        sample = source.load(SampleId(7, number), shape)
        expected = encoder.encode(raw.stack([raw.load(SampleId(record.window, record.sample), shape)]))
        for name in ARRAYS:
            ours, theirs = sample.arrays[name], expected.arrays[name][0]
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
        assert sample.arrays["face"].any() and sample.arrays["text"].any()
        assert sample.arrays["motion"].any() == (record.kind == "motion")
        stacked = source.stack([sample, source.blank(SampleId(7, number), shape)])
        batch = to_batch(stacked, source.constants)
        np.testing.assert_array_equal(batch.null_text, encoder.constants["null_text"])
        np.testing.assert_array_equal(batch.weight, [1, 0])
        [again] = unstack(stacked)
        assert (again.id, again.name) == ((7, number), record.name)
        np.testing.assert_array_equal(again.arrays["target"], sample.arrays["target"])


def test_windows_of_a_video_differ(prepared, tiny_weights):
    source = open_shards(prepared, tiny_weights)
    first, second = (source.load(SampleId(0, place), source.shapes[place]) for place in (0, 1))
    assert first.name == second.name == "clip0"
    first, second = first.arrays, second.arrays
    assert (first["target"] != second["target"]).any() and (first["audio"] != second["audio"]).any()
    np.testing.assert_array_equal(first["text"], second["text"])


@pytest.mark.slow
def test_processes_share_the_work(prepared, tiny_weights, data, tmp_path):
    parts = [make_options(tiny_weights, data, tmp_path, num_processes=2, process_id=i) for i in range(2)]
    assert not prepare(parts[0])
    with pytest.raises(UserError, match="not all shards are there"):
        open_shards(tmp_path, tiny_weights)
    alone = set(contents(tmp_path))
    assert prepare(parts[1])
    assert alone == {"shard-00000.array_record", "shard-00002.array_record"}
    assert contents(tmp_path) == contents(prepared)
    assert (tmp_path / "index.jsonl").read_text() == (prepared / "index.jsonl").read_text()


@pytest.mark.slow
def test_a_killed_run_goes_on(prepared, tiny_weights, data, tmp_path):
    command = [sys.executable, "-m", "talkverse_jax", "prepare", *arguments(make_flags(tiny_weights, data, tmp_path))]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        while not (tmp_path / "shard-00000.json").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    done = {path.name for path in tmp_path.glob("shard-*.json")}
    assert 1 <= len(done) < 4 and not (tmp_path / "index.jsonl").exists()
    written = {name: (tmp_path / name).stat().st_mtime_ns for name in done}
    assert prepare(make_options(tiny_weights, data, tmp_path))
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in done} == written
    assert contents(tmp_path) == contents(prepared)
    assert not list(tmp_path.glob("*.partial"))


def test_only_what_has_changed_is_made_again(prepared, tiny_weights, data, tmp_path):
    """Clip 0 mended, clip 1 with another caption, clip 3 gone, a new one above them all."""
    ours, output = tmp_path / "data", tmp_path / "shards"
    shutil.copytree(data, ours)
    shutil.copytree(prepared, output)
    assert prepare(make_options(tiny_weights, ours, output))  # moved data are the same
    before, index = contents(output), (output / "index.jsonl").read_text()
    assert before == contents(prepared) and index == (prepared / "index.jsonl").read_text()
    rows = [{"video_path": f"videos/{name}.mp4", "caption": f"person {name[-1]} speaks"} for name in ("new4", "clip0")]
    rows += [{"video_path": "videos/clip1.mp4", "caption": "somebody"}]
    rows += [{"video_path": "videos/clip2.mp4", "caption": "person 2 speaks"}]
    write_csv(ours / "metadata.csv", rows)
    for name in ("new4", "clip0"):
        write_video(ours / "videos" / f"{name}.mp4", 4.0)
    shutil.copy(ours / "videos" / "clip0.npz", ours / "videos" / "new4.npz")
    changes = "of 4 samples 1 has a mended video, 1 has another caption, 1 is gone; 1 is new"
    with pytest.raises(UserError, match=f"made from other videos: {changes}; give those, or --data_changed go_on"):
        prepare(make_options(tiny_weights, ours, output))
    assert contents(output) == before and (output / "index.jsonl").read_text() == index
    assert prepare(make_options(tiny_weights, ours, output, data_changed="go_on"))
    after = contents(output)
    assert {name: after[name] for name in before} == before
    assert sorted(after.keys() - before.keys()) == [f"shard-0000{n}.array_record" for n in (4, 5, 6)]
    source = open_shards(output, tiny_weights)
    assert [(each.name, each.sample, each.window) for each in source.records] == [
        (name, number, window) for name, number in (("clip2", 2), ("new4", 4), ("clip0", 5), ("clip1", 6))
        for window in (0, 1)
    ]  # fmt: skip
    assert source.load(SampleId(0, 0), source.shapes[0]).name == "clip2"
    known = Ledger.of(open_shards(prepared, tiny_weights).listed)
    told = str(known.changes(source.listed))
    assert told == "of 8 samples 2 have a mended video, 2 have another caption, 2 are gone; 2 are new"
    assert prepare(make_options(tiny_weights, ours, output)) and contents(output) == after  # needs no flag again


def test_shards_of_an_older_program_are_gone_on_with(prepared, tiny_weights, data, tmp_path):
    """They know their videos by paths, and list no samples."""
    output = tmp_path / "shards"
    shutil.copytree(prepared, output)
    rows = read_metadata([str(data / "metadata.csv")], str(data))
    digest = make_catalogue(rows, VideoRules("tiny-128", LENGTHS, roi=True)).digest
    meta = json.loads((output / "meta.json").read_text())
    (output / "meta.json").write_text(json.dumps(meta | {"samples": digest}, indent=1) + "\n")
    for name in ("samples.jsonl", "checksums"):
        (output / name).unlink()
    lines = [json.loads(line) for line in (output / "index.jsonl").read_text().splitlines()]
    for line in lines:
        del line["key"]
    (output / "index.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    before = open_shards(output, tiny_weights)
    assert prepare(make_options(tiny_weights, data, output)) and contents(output) == contents(prepared)
    after = open_shards(output, tiny_weights)
    assert after.digest == before.digest and not Ledger.of(before.listed).changes(after.listed)
    assert (output / "index.jsonl").read_text() == (prepared / "index.jsonl").read_text()
    for name in ("samples.jsonl", "checksums"):
        (output / name).unlink()
    (output / "meta.json").write_text(json.dumps(meta | {"samples": "others"}, indent=1) + "\n")
    with pytest.raises(UserError, match="made from other videos"):
        prepare(make_options(tiny_weights, data, output))


def test_shards_that_were_begun_keep_their_lists():
    a, b = WindowShape(32, 32, "motion"), WindowShape(32, 32, "short")
    first = listed(b, a, b, a, a)
    known = Ledger.of(first).after([first[4], first[0], *listed(a)], returning=False)
    made = divide(known.members, windows=1, size=2)
    assert [(shard.number, shard.shape, [id.sample for id in shard.ids]) for shard in made] == [
        (1, a, [4]),  # 1 and 3 are gone, and with them shard 0
        (2, b, [0]),
        (3, a, [5]),
    ]


def test_a_run_that_is_done_makes_nothing(prepared, tiny_weights, data):
    before = {path.name: path.stat().st_mtime_ns for path in prepared.glob("shard-*")}
    assert prepare(make_options(tiny_weights, data, prepared))
    assert {path.name: path.stat().st_mtime_ns for path in prepared.glob("shard-*")} == before


def test_a_lost_shard_is_made_again(prepared, tiny_weights, data):
    before = contents(prepared)
    lost = prepared / "shard-00003.array_record"
    lost.write_bytes(lost.read_bytes()[:-1])
    assert prepare(make_options(tiny_weights, data, prepared))
    assert contents(prepared) == before


def test_what_cannot_be_read_is_left_out_and_listed(tiny_weights, tmp_path):
    data, output = tmp_path / "data", tmp_path / "shards"
    write_dataset(data, 3, 2.0)
    broken = data / "videos" / "clip1.mp4"
    content = broken.read_bytes()
    middle = content.index(b"mdat") + len(content) // 4
    broken.write_bytes(content[:middle] + bytes(len(content) // 2) + content[middle + len(content) // 2 :])
    (data / "videos" / "clip2.npz").unlink()
    prepare(make_options(tiny_weights, data, output))
    source = open_shards(output, tiny_weights)
    assert {record.name for record in source.records} == {"clip0"} and len(source.records) == 2
    lines = [json.loads(line) for line in (output / "skipped.jsonl").read_text().splitlines()]
    assert {os.path.basename(line["name"]) for line in lines} == {"clip1.mp4", "clip2.mp4"}
    assert {line["reason"] for line in lines if "clip2" in line["name"]} == {"no mask file"}


def test_what_cannot_be_encoded_is_one_sample(tmp_path):
    """Of a batch of three, one; and out of memory is no sample's fault."""
    shape, skipped = WindowShape(128, 128, "short"), Skipped(tmp_path / "skipped.jsonl")
    entries = [SimpleNamespace(name=name, video=f"{name}.mp4") for name in ("a", "bad", "c")]
    source = RawSource(entries, 0, LENGTHS)
    samples = source.stack(
        [
            source.blank(SampleId(0, n), shape)._replace(caption=entry.name, weight=1.0)
            for n, entry in enumerate(entries)
        ]
    )

    class Encoder:
        fault: Exception = RuntimeError("a mistake")

        def encode(self, samples):
            if "bad" in samples.caption:
                raise self.fault
            return PreparedBatch({"text": np.ones((3, 1))}, samples.id, samples.name, samples.weight)

    made = _encoded(Encoder(), source, samples, shape, skipped)
    assert [(sample.name, sample.id) for sample in made] == [("a", SampleId(0, 0)), ("c", SampleId(0, 2))]
    [line] = map(json.loads, skipped.path.read_text().splitlines())
    assert (line["name"], line["reason"], line["sample"]) == ("bad.mp4", "RuntimeError", 1) and "Trace" in line["trace"]
    Encoder.fault = MemoryError()
    with pytest.raises(MemoryError):
        _encoded(Encoder(), source, samples, shape, skipped)


def test_the_program_of_the_guide_makes_a_csv(data, tmp_path):
    guide = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    program = textwrap.dedent(re.search(r"```python\n(.*?)```", guide, re.DOTALL)[1])
    theirs = tmp_path / "rows.csv"
    names = ["videos/clip0.mp4", "videos/gone.mp4", "videos/clip1.mp4"]
    rest = {"caption": "a, b", "fps": 25, "scenes": "0,9;10,20", "score": 1}
    write_csv(theirs, [{"video_path": name} | rest for name in names])
    target = tmp_path / "talkverse.csv"
    subprocess.run([sys.executable, "-c", program, theirs, data, target], check=True)
    rows = read_metadata([str(target)], str(data))
    assert [(row.name, row.caption, row.fps, row.scenes) for row in rows] == [
        ("clip0", "a, b", 25, "0,9;10,20"),
        ("clip1", "a, b", 25, "0,9;10,20"),
    ]


def test_other_flags_are_refused(prepared, tiny_weights, data):
    for more, message in (
        ({"windows": 3}, "made with --windows 2, not 3"),
        ({"seed": 1}, "made with --seed 0, not 1"),
        ({"num_frames": 12}, "made with --num_frames 8, not 12"),
        ({"dtype": "float32"}, "made with --dtype bfloat16, not float32"),
        ({"enable_roi_loss": False}, "made with masks of face and body"),
    ):
        with pytest.raises(UserError, match=message):
            prepare(make_options(tiny_weights, data, prepared, **more))


@pytest.mark.parametrize(
    "more, message",
    [
        ({"shard_size": 0}, "--shard_size 0: give 1 or more"),
        ({"process_id": 1}, "--process_id 1: give 0 to 0"),
        ({"max_skipped_share": 2}, "--max_skipped_share 2.0: give a number from 0 to 1"),
        ({"seed": -1}, "--seed -1: give a number from 0"),
        ({"output": "gs://bucket/shards"}, "mount the bucket"),
        ({"num_frames": 7}, "--num_frames 7: .* multiple of 4"),
        ({"weights": "nowhere"}, "nowhere: no such folder"),
        ({"dataset_metadata_path": "none.csv"}, "none.csv: no such file"),
        ({"size_bucket": "none"}, "--size_bucket none: unknown; give one of"),
    ],
)
def test_what_cannot_be_is_one_line(tiny_weights, data, tmp_path, more, message):
    with pytest.raises(UserError, match=message):
        prepare(make_options(tiny_weights, data, tmp_path / "shards", **more))
