"""What a run writes takes the place of nothing that it reads, and of nothing that another run writes."""

import json
import os
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.run.output import check, claimed, files_of
from talkverse_jax.run.worker import make_clips, make_video
from tests.processes import ROOT
from tests.run.drawn import Drawn, job

NFC, NFD = (unicodedata.normalize(form, "é.mp4") for form in ("NFC", "NFD"))


@pytest.fixture
def source(tmp_path):
    """A sound under names that its content does not mind."""
    folder = tmp_path / "in"
    folder.mkdir()
    return shutil.copyfile(ROOT / "assets/speech.flac", folder / NFC)


def _spelled(source, name):
    """The same file, named otherwise."""
    folder = source.parent
    other = folder.parent / "other.mp4"
    if name == "link":
        other.symlink_to(source)
    elif name == "hard link":
        os.link(source, other)
    elif name == "link to the folder":
        (folder.parent / "linked").symlink_to(folder)
    return {
        "itself": source,
        "dots": folder / ".." / "in" / NFC,
        "slashes": f"{folder}//./{NFC}",
        "from here": os.path.relpath(source),
        "link": other,
        "hard link": other,
        "link to the folder": folder.parent / "linked" / NFC,
        "other form": folder / NFD,
        "home": f"~/in/{NFC}",
    }[name]


SPELLINGS = (
    "itself", "dots", "slashes", "from here", "link", "hard link", "link to the folder", "other form", "home"
)  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_output_is_no_input_by_any_spelling(source, tmp_path, monkeypatch, spelling):
    monkeypatch.setenv("HOME", str(tmp_path))
    before, pipeline = source.read_bytes(), Drawn()
    output = _spelled(source, spelling)
    there = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=r"is read too \(--audio .*é.mp4\); give another --output"):
        make_video(pipeline, job(output, audio=str(source)))
    assert source.read_bytes() == before and not pipeline.made
    assert sorted(tmp_path.rglob("*")) == there


@pytest.mark.parametrize("name", [path.name for path in files_of(Path("talk.mp4"))])
def test_nothing_that_is_written_is_read(tmp_path, name):
    """Not the record either, nor what is there while the video is made."""
    source = shutil.copyfile(ROOT / "assets/face.png", tmp_path / name)
    with pytest.raises(UserError, match=rf"{name}: is read too \(--image "):
        make_video(Drawn(), job(tmp_path / "talk.mp4", image=str(source)))
    assert source.read_bytes() == (ROOT / "assets/face.png").read_bytes()


def test_trained_files_and_weights_are_read_too(tmp_path):
    weights = shutil.copytree(job("x").weights.weights, tmp_path / "weights")
    with pytest.raises(UserError, match=r"manifest.json: is read too \(--weights "):
        check(job(weights / "manifest.mp4", weights=str(weights)))
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "style.safetensors").touch()
    with pytest.raises(UserError, match=r"adapter_config.json: is read too \(--lora_ckpt "):
        check(job(tmp_path / "adapter_config.mp4", lora_ckpt=(str(tmp_path / "style.safetensors"),)))
    assert check(job(tmp_path / "talk.mp4")) == tmp_path / "talk.mp4"


def test_the_names_are_all_that_a_run_writes(tmp_path, monkeypatch):
    made = set()

    def note(event, args):
        if event == "open" and str(args[0]).startswith(str(tmp_path)) and args[2] & (os.O_WRONLY | os.O_RDWR):
            made.add(Path(args[0]))
        if event in ("os.rename", "os.remove"):
            made.update(Path(name) for name in args[:2] if str(name).startswith(str(tmp_path)))

    watching = [note]
    sys.addaudithook(lambda event, args: watching[0](event, args) if watching else None)
    clips = make_clips(Drawn(), job(tmp_path / "talk.mp4"))
    next(clips)
    clips.close()
    make_video(Drawn(), job(tmp_path / "talk.mp4"), resume=True)
    watching.clear()
    temporary = {path for path in made if not path.name.lstrip(".").startswith("talk")}  # of `check_output`
    assert made - temporary == set(files_of(tmp_path / "talk.mp4"))


@pytest.mark.parametrize("stage", ["partial", "before", "finishing"])
def test_the_name_of_an_unfinished_video(tmp_path, stage):
    with pytest.raises(UserError, match=f"a.{stage}.mp4: is the name of an unfinished video; give another --output"):
        check(job(tmp_path / f"a.{stage}.mp4"))


def test_a_name_has_room_for_those_of_unfinished_files(tmp_path):
    with pytest.raises(UserError, match="the names of its unfinished files would be too long; give a shorter name"):
        check(job(tmp_path / f"{'a' * 236}.mp4"))
    make_video(Drawn(), job(tmp_path / f"{'a' * 235}.mp4"))


RUN = """
import sys
from talkverse_jax.run.worker import make_clips
from tests.run.drawn import Drawn, job

for clip in make_clips(Drawn(), job(sys.argv[1])):
    print(clip.index, flush=True)
    sys.stdin.readline()
"""


def test_two_runs_on_one_name(tmp_path):
    """The second, also under a name whose unfinished files would be the same, is one line; the first is right."""
    command = [sys.executable, "-c", RUN, tmp_path / "talk.mp4"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "0\n"
        there = sorted(os.listdir(tmp_path))
        for name in ("talk.mp4", "talk.MP4"):
            line = rf"^{tmp_path / name}: another run is making it; wait for it, or give another --output \(process"
            with pytest.raises(UserError, match=rf"{line} {first.pid} on .*\)$"):
                make_video(Drawn(), job(tmp_path / name))
            assert sorted(os.listdir(tmp_path)) == there
        first.communicate("\n\n\n")
    assert first.returncode == 0
    make_video(Drawn(), job(tmp_path / "alone.mp4"))
    assert (tmp_path / "talk.mp4").read_bytes() == (tmp_path / "alone.mp4").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["alone.json", "alone.mp4", "talk.json", "talk.mp4"]


def test_a_name_is_free_again_when_its_run_ends(tmp_path):
    with pytest.raises(KeyError), claimed(job(tmp_path / "talk.mp4")):
        with pytest.raises(UserError, match="another run is making it"), claimed(job(tmp_path / "talk.mp4")):
            raise AssertionError
        raise KeyError
    with claimed(job(tmp_path / "talk.mp4")):
        pass
    assert not os.listdir(tmp_path)


def _plant(kind: str, path: Path, precious: Path) -> None:
    {
        "link": lambda: path.symlink_to(precious),
        "hard link": lambda: os.link(precious, path),
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
    }[kind]()


PLANTED = ["talk.partial.mp4", "talk.before.mp4", "talk.finishing.mp4", "talk.partial.npz", "talk.json.partial"]
PLANTED += ["talk.partial.npz.partial"]


@pytest.mark.parametrize(
    "kind, resume", [("link", False), ("link", True), ("pipe", False), ("pipe", True), ("hard link", False)]
)
def test_what_is_planted_under_unfinished_names_goes(tmp_path, kind, resume):
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    make_video(Drawn(), job(tmp_path / "alone.mp4"))
    for name in PLANTED:
        _plant(kind, tmp_path / name, precious)
    make_video(Drawn(), job(tmp_path / "talk.mp4"), resume=resume)
    assert precious.read_bytes() == b"precious" and precious.stat().st_nlink == 1
    assert (tmp_path / "talk.mp4").read_bytes() == (tmp_path / "alone.mp4").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["alone.json", "alone.mp4", "precious", "talk.json", "talk.mp4"]


@pytest.mark.parametrize("name", PLANTED)
def test_a_folder_under_an_unfinished_name_is_one_line(tmp_path, name):
    (tmp_path / name / "precious").mkdir(parents=True)
    with pytest.raises((UserError, IsADirectoryError), match="talk"):
        make_video(Drawn(), job(tmp_path / "talk.mp4"))
    assert (tmp_path / name / "precious").is_dir() and not (tmp_path / "talk.mp4").exists()


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_planted_under_the_name_of_the_lock_is_not_followed(tmp_path, kind):
    (tmp_path / "precious").write_bytes(b"precious")
    _plant(kind, tmp_path / ".talk.lock", tmp_path / "precious")
    with pytest.raises((UserError, OSError), match=".talk.lock"):
        make_video(Drawn(), job(tmp_path / "talk.mp4"))
    assert (tmp_path / "precious").read_bytes() == b"precious"


FOREIGN = {
    "another program's": lambda path: path.write_text('{"settings": 1}'),
    "ours, but for a number": lambda path: path.write_text('{"talkverse_jax": 1, "settings": {}, "bytes": "x"}'),
    "ours, but for a list": lambda path: path.write_text('{"talkverse_jax": 1, "settings": {}, "made_from": []}'),
    "a text that names us": lambda path: path.write_text('"talkverse_jax settings"'),
    "not UTF-8": lambda path: path.write_bytes(b'{"a": "\xff\xfe"}'),
    "deep": lambda path: path.write_text("[" * 200_000),
    "empty": lambda path: path.touch(),
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link": lambda path: path.symlink_to(ROOT / "README.md"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_record_of_somebody_else_is_left_alone(tmp_path, kind):
    FOREIGN[kind](tmp_path / "talk.json")
    before = os.lstat(tmp_path / "talk.json")
    for resume in (False, True):
        with pytest.raises(UserError, match="talk.json: stands where the video's record goes and is none; give"):
            make_video(Drawn(), job(tmp_path / "talk.mp4"), resume=resume)
    after = os.lstat(tmp_path / "talk.json")
    assert os.path.samestat(before, after) and before.st_mtime_ns == after.st_mtime_ns
    assert os.listdir(tmp_path) == ["talk.json"]


def test_a_record_of_ours_is_replaced(tmp_path):
    make_video(Drawn(), job(tmp_path / "talk.mp4"))
    make_video(Drawn(), job(tmp_path / "talk.mp4", prompt="A man."))
    record = json.loads((tmp_path / "talk.json").read_text())
    assert record["settings"]["prompt"] == "A man." and record["bytes"] == (tmp_path / "talk.mp4").stat().st_size
