import dataclasses
import hashlib
import json
import shutil
from fractions import Fraction

import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.data import catalogue
from talkverse_jax.data.batches import WindowShape
from talkverse_jax.data.catalogue import VideoRules, describe, describe_notes, make_catalogue
from talkverse_jax.data.metadata import Row, read_metadata
from talkverse_jax.data.windows import Lengths
from talkverse_jax.models.vae.config import VAEConfig
from tests.videos import write_dataset, write_masks, write_video

LENGTHS = Lengths(num_frames=16, motion_frames=9, strides=VAEConfig.wan22().strides)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Three good videos of three shapes, and one of each fault."""
    folder = tmp_path_factory.mktemp("data")
    good = write_dataset(folder, 3, [2.0, 0.8, 2.0], [(128, 128), (128, 128), (160, 128)])
    cut = write_video(folder / "videos" / "cut.mp4", 2.0, options={"movflags": "faststart"})
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 2 // 3])
    write_video(folder / "videos" / "mute.mp4", 2.0, sound=None)
    write_video(folder / "videos" / "brief.mp4", 0.6)
    write_video(folder / "videos" / "unmarked.mp4", 2.0)
    (folder / "videos" / "text.mp4").write_text("no video\n" * 99)
    bad = folder / "bad.csv"
    names = ["cut", "mute", "brief", "unmarked", "text", "none"]
    bad.write_text("video_path,caption\n" + "".join(f"videos/{name}.mp4,c\n" for name in names) + ",no path\n")
    return read_metadata([str(good), str(bad)], str(folder))


def test_what_is_taken_and_what_is_not(rows):
    made = make_catalogue(rows, VideoRules("tiny-128", LENGTHS, roi=True))
    assert [(entry.name, entry.frames, entry.shape) for entry in made.entries] == [
        ("clip0", 50, WindowShape(128, 128, "motion")),
        ("clip1", 20, WindowShape(128, 128, "short")),
        ("clip2", 50, WindowShape(160, 128, "motion")),
    ]
    assert made.entries[0].masks.endswith("videos/clip0.npz")
    assert made.entries[0].scene == (0, 49)
    assert [(skip.name, skip.reason) for skip in made.rejected[:-1]] == [
        ("videos/cut.mp4", "cut short"),
        ("videos/mute.mp4", "no sound"),
        ("videos/brief.mp4", "too short"),
        ("videos/unmarked.mp4", "no mask file"),
        ("videos/text.mp4", "cannot be read"),
        ("videos/none.mp4", "no such file"),
    ]
    assert made.rejected[-1].reason == "no video_path"
    assert made.rejected[-1].name.endswith("bad.csv line 8")
    assert describe(made).startswith("3 videos in 3 shapes, 2 with motion frames; 7 left out (cut short: 1, ")


def test_masks_are_asked_for_only_where_they_are_needed(rows):
    names = [entry.name for entry in make_catalogue(rows, VideoRules("tiny-128", LENGTHS)).entries]
    assert "unmarked" in names
    detected = make_catalogue(rows, VideoRules("tiny-128", LENGTHS, roi=True, detector="tests.videos:face_box"))
    assert [entry.masks for entry in detected.entries if entry.name == "unmarked"] == [""]


def test_whatever_one_video_raises_the_others_are_looked_at(rows, monkeypatch, tmp_path):
    look = catalogue._look

    def fails(row, rules):
        if "clip1" in row.video_path:
            raise KeyError("x://")
        return look(row, rules)

    monkeypatch.setattr(catalogue, "_look", fails)
    cache = tmp_path / "catalogue.jsonl"
    for _ in range(2):  # again: from the cache
        made = make_catalogue(rows[:3], VideoRules("tiny-128", LENGTHS), cache)
        assert [entry.name for entry in made.entries] == ["clip0", "clip2"]
        [skip] = made.rejected
        assert (skip.reason, skip.detail) == ("KeyError", "'x://'") and "in fails" in skip.trace


def test_always_motion(rows):
    made = make_catalogue(
        rows[:3], VideoRules("tiny-128", Lengths(16, 9, always_motion=True, strides=VAEConfig.wan22().strides))
    )
    assert [entry.name for entry in made.entries] == ["clip0", "clip2"]
    assert [skip.reason for skip in made.rejected] == ["too short"]


def test_the_longest_scene_decides(rows, tmp_path):
    path = write_video(tmp_path / "scenes.mp4", 3.0, fps=50)

    def entry(scenes):
        row = Row("", "scenes.mp4", str(path), "c", fps=50.0, scenes=scenes)
        made = make_catalogue([row], VideoRules("tiny-128", LENGTHS))
        return made.entries[0] if made.entries else made.rejected[0].reason

    assert (entry("").scene, entry("").shape.kind) == ((0, 74), "motion")
    assert (entry("0,19;20,69;70,149").scene, entry("0,19;20,69;70,149").shape.kind) == ((37, 74), "motion")
    assert entry("0,49;50,99;100,149").shape.kind == "short"  # 23 frames
    assert entry("0,9;10,42;43,52") == "too short"  # of 150 frames none shows more


def test_a_later_run_looks_at_nothing(rows, tmp_path, monkeypatch):
    rules, cache = VideoRules("tiny-128", LENGTHS, roi=True), tmp_path / "cache" / "catalogue.jsonl"
    made = make_catalogue(rows, rules, cache)
    looked = looks(monkeypatch)
    again = make_catalogue(rows, rules, cache)
    assert again == made
    assert again.digest == made.digest
    assert looked == []
    other = make_catalogue(rows[1:], rules, cache)  # what is known of a row does not depend on its place
    assert looked == [] and other.entries == made.entries[1:] and other.digest != made.digest
    make_catalogue(rows[:2], VideoRules("tiny-128", Lengths(16, 5, strides=VAEConfig.wan22().strides), roi=True), cache)
    assert len(looked) == 2


def looks(monkeypatch) -> list[str]:
    """The names of the videos that are looked at from now on."""
    looked, look = [], catalogue._look
    monkeypatch.setattr(catalogue, "_look", lambda row, rules: looked.append(row.name) or look(row, rules))
    return looked


def test_only_what_has_changed_is_looked_at_again(tmp_path, monkeypatch):
    metadata = write_dataset(tmp_path, 4, 1.2)
    rules, cache = VideoRules("tiny-128", LENGTHS, roi=True), tmp_path / "catalogue.jsonl"

    def make():
        return make_catalogue(read_metadata([str(metadata)], str(tmp_path)), rules, cache)

    before, looked = make(), looks(monkeypatch)
    write_video(tmp_path / "videos" / "clip1.mp4", 1.6)  # mended
    write_masks(tmp_path / "videos" / "clip2.npz", 30, (120, 128))
    metadata.write_text(metadata.read_text().replace("person 3", "a person"))
    after = make()
    assert sorted(looked) == ["clip1", "clip2", "clip3"]
    differ = [[a != b for a, b in zip(one.identity, two.identity)] for one, two in zip(before.entries, after.entries)]
    video, caption, rest = [True, False, True], [False, True, False], [False, False, True]
    assert differ == [[False] * 3, video, rest, caption]


def test_moved_data_are_the_same(tmp_path):
    metadata = write_dataset(tmp_path / "here", 3, 1.2)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    rules = VideoRules("tiny-128", LENGTHS, roi=True)
    lines = (tmp_path / "there" / "metadata.csv").read_text().replace("videos/", "../there//videos/").splitlines()
    (tmp_path / "there" / "metadata.csv").write_text("\n".join([lines[0], *lines[:0:-1]]))  # backwards
    here = make_catalogue(read_metadata([str(metadata)], str(tmp_path / "here")), rules)
    there = make_catalogue(read_metadata([str(tmp_path / "there" / "metadata.csv")], str(tmp_path / "there")), rules)
    assert [entry.identity for entry in there.entries[::-1]] == [entry.identity for entry in here.entries]
    assert len({entry.identity for entry in here.entries}) == 3 and here.digest != there.digest


def test_a_catalogue_is_not_overwritten_before_it_is_accepted(rows, tmp_path, monkeypatch):
    rules, cache = VideoRules("tiny-128", LENGTHS), tmp_path / "catalogue.jsonl"
    make_catalogue(rows[:3], rules, cache)
    assert not cache.exists()
    catalogue.accept(cache)
    first = cache.read_text()
    make_catalogue(rows, rules, cache)
    assert cache.read_text() == first
    looked = looks(monkeypatch)
    make_catalogue(rows, rules, cache)
    assert looked == []  # what the refused run saw is not lost
    make_catalogue(rows[:3], rules, cache)
    catalogue.accept(cache)
    assert cache.read_text() == first and [path.name for path in tmp_path.iterdir()] == ["catalogue.jsonl"]
    make_catalogue(rows, rules, cache)
    catalogue.accept(cache)
    assert len(cache.read_text().splitlines()) == 1 + len(rows)


def test_a_cache_of_before_is_read(rows, tmp_path, monkeypatch):
    """It has a header of all rows, and lines that know no contents."""
    rules, cache = VideoRules("tiny-128", LENGTHS), tmp_path / "catalogue.jsonl"
    made = make_catalogue(rows[:7], rules)
    write_as_before(cache, rows[:7], rules, made)
    looked = looks(monkeypatch)
    assert make_catalogue(rows[:7], rules, cache) == made
    catalogue.accept(cache)
    assert make_catalogue(rows[:7], rules, cache) == made
    assert looked == []
    write_as_before(cache, rows[:7], rules, made)
    make_catalogue(rows[:6], rules, cache)
    assert len(looked) == 6


def write_as_before(cache, rows, rules, made) -> None:
    """The cache as the first version wrote it."""
    plain = [dataclasses.asdict(row) for row in rows]
    base = {row.pop("base") for row in plain}.pop()
    for row in plain:
        del row["dataset"], row["sounds"], row["boxes"]
    lengths = {"num_frames": 16, "motion_frames": 9, "always_motion": False}
    known = {"bucket": "tiny-128", "lengths": lengths, "roi": False, "detector": "", "base": base, "roi_dir": ""}
    digest = hashlib.sha256("".join(map(json.dumps, plain)).encode()).hexdigest()
    lines = [dataclasses.asdict(entry) for entry in (*made.entries, *made.rejected)]
    for line in lines:
        for name in ("content", "keypoints", "weight", "people"):
            line.pop(name, None)
    header = {"rules": known, "rows": len(rows), "digest": digest}
    cache.write_text("".join(json.dumps(line) + "\n" for line in (header, *lines)))


def test_what_is_changed_in_reading_is_counted_by_kind(tmp_path):
    """Of two anamorphic videos and a plain one; the cache keeps it, and one of before has none."""
    metadata = [
        write_dataset(tmp_path / "wide", 2, 2.0, (128, 64), aspect=Fraction(2, 1), masks=False),
        write_dataset(tmp_path / "plain", 1, 2.0, masks=False),
    ]
    rows = [row for path in metadata for row in read_metadata([str(path)], str(path.parent))]
    rules, cache = VideoRules("tiny-128", LENGTHS), tmp_path / "catalogue.jsonl"
    made = make_catalogue(rows, rules, cache)
    assert describe_notes(made) == ["2 of 3 videos: pixels of 2:1, stretched to squares"]
    assert [(entry.height, entry.width, entry.stretch) for entry in made.entries[1:]] == [
        (128, 128, (1.0, 2.0)),
        (128, 128, (1.0, 1.0)),
    ]
    catalogue.accept(cache)
    assert make_catalogue(rows, rules, cache) == made
    lines = [json.loads(line) for line in cache.read_text().splitlines()]
    for line in lines[1:]:
        del line["stretch"], line["notes"]
    cache.write_text("".join(json.dumps(line) + "\n" for line in lines))
    before = make_catalogue(rows, rules, cache)
    assert describe_notes(before) == [] and before.digest == made.digest


def test_data_sets_are_repeated_and_weighed(rows, tmp_path):
    made = make_catalogue(rows[:4], VideoRules("tiny-128", LENGTHS))
    first = write_dataset(tmp_path, 1, 2.0)
    several = read_metadata([str(first), str(first)], [str(tmp_path), str(tmp_path / "videos" / "..")])
    assert [(row.dataset, row.base) for row in several] == [(0, str(tmp_path)), (1, f"{tmp_path}/videos/..")]
    taken = catalogue.mixed(make_catalogue(several, VideoRules("tiny-128", LENGTHS)), [1, 3], [1.0, 0.25])
    assert [entry.weight for entry in taken.entries] == [1.0, 0.25, 0.25, 0.25] and taken.datasets == (0, 1, 1, 1)
    assert len({entry.identity for entry in taken.entries}) == 1
    assert catalogue.mixed(made, [1, 1], [1.0, 1.0]) == made


def test_a_torn_cache_is_made_anew(rows, tmp_path):
    rules, cache = VideoRules("tiny-128", LENGTHS), tmp_path / "catalogue.jsonl"
    made = make_catalogue(rows[:3], rules, cache)
    catalogue.accept(cache)
    whole = cache.read_text()
    for torn in ("", whole[:20], whole[: len(whole) // 2], "[]\n"):
        cache.write_text(torn)
        assert make_catalogue(rows[:3], rules, cache) == made
        catalogue.accept(cache)
        assert cache.read_text() == whole


def test_a_bucket_that_is_not_there(rows):
    with pytest.raises(UserError, match="fasttalk-460"):
        make_catalogue(rows, VideoRules("fasttalk-460", LENGTHS))


def test_what_becomes_of_the_sound_is_counted(tmp_path):
    for name, layout in (("a", "5.1"), ("b", "5.1"), ("c", "mono")):
        write_video(tmp_path / f"{name}.mkv", 2.0, layout=layout)
    rows = [Row("here", f"{name}.mkv", str(tmp_path / f"{name}.mkv"), "") for name in "abc"]
    made = make_catalogue(rows, VideoRules("tiny-128", LENGTHS))
    assert describe_notes(made) == ["2 of 3 videos: its 5.1 sound is mixed down to stereo"]
