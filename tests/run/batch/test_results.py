"""What stands in a batch's folder: whose it is, and whether it is whole."""

import json
import os

import numpy as np
import pytest
import soundfile

from talkverse_jax.core.errors import UserError
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.run.batch.faults import Failure
from talkverse_jax.run.batch.items import Base, read_list
from talkverse_jax.run.batch.results import RESULTS, Results
from talkverse_jax.run.batch.store import open_store
from tests.processes import ROOT
from tests.run.batch.drawn import WEIGHTS, Said
from tests.videos import write_video


@pytest.fixture
def batch(tmp_path):
    """Makes what a worker knows of a list; what it says is in `said`."""
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), 16000)
    (tmp_path / "face.png").symlink_to(ROOT / "assets/face.png")

    def make(*rows: dict) -> Results:
        common = {"image": "face.png", "audio": "a.wav", "prompt": ""}
        (tmp_path / "list.json").write_text(json.dumps([common | row for row in rows]))
        items = read_list(str(tmp_path / "list.json"), Base("talkverse", Weights(WEIGHTS), Machine(), {}))
        results = Results(open_store(str(tmp_path / "out")), {item.id: item for item in items}, 1, Said())
        results.said = results._reporter.lines
        return results

    return make


def finished(results: Results, name: str, folder):
    """The video that a worker has made of an item, and its record."""
    job, path = results.items[name].job, write_video(folder / "made.mp4", 0.4, 25)
    record = {
        "talkverse_jax": "1",
        "settings": {},
        "identity": job.identity(),
        "made_from": job.made_from,
        "frames": 10,
    }
    return path, record | {"fps": 25, "clips": 1, "seconds": {"total": 1.0}, "bytes": path.stat().st_size}


@pytest.mark.parametrize("content", ["{}", "[1]", "[" * 100_000, "mine", '{"talkverse": 1}', "null", "\ud83d"])
def test_what_is_no_record_is_never_overwritten(batch, tmp_path, content):
    results = batch({"id": "a"}, {"id": "b"})
    path, record = finished(results, "b", tmp_path)
    foreign = tmp_path / "out/a.json"
    foreign.write_bytes(content.encode(errors="surrogatepass"))
    before = foreign.read_bytes()
    results.begin()
    assert results.found.keys() == {"a"}
    assert results.found["a"]["error"].startswith("a.json: stands where the record goes and is none; move it away")
    late = tmp_path / "out/b.json"  # that came while the video was made
    late.write_bytes(before)
    with pytest.raises(UserError, match=r"b\.json: stands where the record goes"):
        results.place("b", path, record)
    assert foreign.read_bytes() == late.read_bytes() == before and not (tmp_path / "out/b.mp4").exists()


@pytest.mark.parametrize("content", ["{}", "[1]", "[" * 100_000, '{"talkverse_jax": 1, "made_from": {}}', ""])
def test_a_video_without_its_record_is_left_alone(batch, tmp_path, content):
    results = batch({"id": "a"})
    write_video(tmp_path / "out/a.mp4", 0.4, 25)
    (tmp_path / "out/a.json").write_text(content)
    results.begin()
    assert results.found["a"]["state"] == "failed" and "\n" not in results.found["a"]["error"]


@pytest.mark.parametrize("record", [None, {}, "other", "torn"])
@pytest.mark.parametrize("link", [False, True])
def test_nobody_is_told_to_remove_what_an_item_reads(batch, tmp_path, record, link):
    """The picture of an item is a video to dub, and lies in the folder under the name of a video to be made."""
    (tmp_path / "out").mkdir()
    source = write_video(tmp_path / "out/ann.mp4", 0.4, 25)
    if link:
        os.link(source, tmp_path / "source.mp4")
    results = batch({"id": "x", "image": "source.mp4" if link else "out/ann.mp4"}, {"id": "ann"})
    path, made = finished(results, "ann", tmp_path)
    if record is not None:
        other = made["made_from"] | ({"prompt": "another"} if record == "other" else {})
        more = {"identity": "", "made_from": other} if record == "other" else {"bytes": 10**9}
        (tmp_path / "out/ann.json").write_text(json.dumps(made | more if record else {}))
    before = source.read_bytes()
    results.begin()
    error = results.found["ann"]["error"]
    assert "item 'x' reads it: give another id" in error and "delete" not in error and "away" not in error
    results.place("ann", path, made)
    assert source.read_bytes() == before


@pytest.mark.parametrize("damage", ["empty", "cut", "longer", "no record yet"])
def test_a_video_that_is_not_whole_is_made_again(batch, tmp_path, damage):
    results = batch({"id": "a"})
    results.begin()
    path, record = finished(results, "a", tmp_path)
    whole = path.read_bytes()
    results.place("a", path, record)
    assert results.found["a"]["state"] == "done" and results.said == []
    video = tmp_path / "out/a.mp4"
    torn = {"cut": whole[: len(whole) // 2], "longer": whole + b"\0\0"}.get(damage, b"")
    video.write_bytes(torn)
    if damage == "no record yet":  # both names came to the disk before what is in the files
        (tmp_path / "out/a.json").write_bytes(b"\0" * 100)
    results = batch({"id": "a"})
    results.begin()
    results.look()
    assert not results.found
    [line] = results.said
    assert line.startswith("a.mp4: ") and line.endswith("; it is made again")
    results.place("a", *finished(results, "a", tmp_path))
    assert results.found["a"]["state"] == "done" and video.read_bytes() == whole


def test_a_record_of_an_older_version_has_no_length(batch, tmp_path):
    results = batch({"id": "a"})
    path, record = finished(results, "a", tmp_path)
    del record["bytes"]
    results.place("a", path, record)
    assert results.found["a"]["state"] == "done"


def test_ids_that_are_one_name_on_a_disk_that_knows_no_case(batch, monkeypatch):
    results = batch({"id": "Ann"}, {"id": "ann"}, {"id": "bob"})
    results.begin()
    assert not results.found
    monkeypatch.setattr(results.store, "knows_case", lambda: False)
    results.begin()
    assert results.found.keys() == {"ann"}
    assert "id 'ann': is the name of 'Ann' on this disk" in results.found["ann"]["error"]


def test_what_another_has_finished_is_not_failed(batch, tmp_path):
    """A worker that slept, while others made its video and removed its unfinished files."""
    results = batch({"id": "a"})
    results.begin()
    path, record = finished(results, "a", tmp_path)
    (tmp_path / "out/a.json").write_text(json.dumps(record))
    path.rename(tmp_path / "out/a.mp4")
    results.fail("a", Failure("no such file"))
    assert results.found["a"]["state"] == "done" and not results.store.names(f"{results.folder}/errors")


def test_what_nobody_foresaw_has_its_trace_in_a_log_until_the_item_is_made(batch, tmp_path):
    results = batch({"id": "a"}, {"id": "b"})
    results.begin()
    results.fail("a", Failure("KeyError: 'x\ud83d'", "Traceback\ud83d"))
    results.fail("b", Failure("b.png: damaged"))
    results.report()
    a, b = map(json.loads, (tmp_path / "out" / RESULTS).read_text().splitlines())
    assert a["log"] == "errors/a.txt" and "log" not in b and a["error"] == "KeyError: 'x\ud83d'"
    assert (tmp_path / "out/errors/a.txt").read_text() == "Traceback\\ud83d"
    assert results.said == ["a: KeyError: 'x\ud83d' (see errors/a.txt)", "b: b.png: damaged"]
    results.tidy()
    assert (tmp_path / "out/errors/a.txt").exists()
    again = batch({"id": "a"}, {"id": "b"})
    again.place("a", *finished(again, "a", tmp_path))
    again.tidy()
    assert not (tmp_path / "out/errors").exists()


def test_a_damaged_note_is_a_failed_item(batch):
    results = batch({"id": "a"})
    results.store.write(f"{results.folder}/errors/a", b"\0\0")
    results.begin()  # nobody's, so it is tried again
    assert not results.found
    results.store.write(f"{results.folder}/errors/a", b"[1")
    results.look()
    assert results.found["a"]["error"] == "damaged note"


@pytest.mark.parametrize("gone", ["pipe", "missing"])
def test_a_video_whose_source_is_gone_since(batch, tmp_path, gone):
    results = batch({"id": "a", "audio": "b.wav"}, {"id": "b"})
    soundfile.write(tmp_path / "b.wav", np.zeros(8000), 16000)
    results.place("a", *finished(results, "a", tmp_path))
    (tmp_path / "b.wav").unlink()
    if gone == "pipe":
        os.mkfifo(tmp_path / "b.wav")
    again = batch({"id": "a", "audio": "b.wav"}, {"id": "b"})
    again.begin()
    assert again.found.keys() == {"a"} and "b.wav" in again.found["a"]["error"]
