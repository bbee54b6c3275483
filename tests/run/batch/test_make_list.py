"""The list of a batch from folders of pictures and sounds."""

import json

import pytest

from talkverse_jax.cli import list_batch as command
from talkverse_jax.core.errors import UserError
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.run.batch.items import Base, read_list
from talkverse_jax.run.batch.make_list import list_batch


@pytest.fixture
def folders(tmp_path):
    """Three pictures, three sounds, a prompt for one picture."""
    for name in ("pictures/ann.png", "pictures/bob.JPG", "pictures/cy.mp4", "pictures/ann.txt", "pictures/.hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("Ann talks.\n" if name.endswith("txt") else "")
    for name in ("ann.wav", "bob.mp3", "cy.flac", "notes.md"):
        (tmp_path / "sounds").mkdir(exist_ok=True)
        (tmp_path / "sounds" / name).write_text("")
    return tmp_path


def test_what_has_one_name_belongs_together(folders):
    out = folders / "lists/all.jsonl"
    flags = {"pictures": folders / "pictures", "sounds": folders / "sounds", "prompt": "Somebody.", "output": out}
    command.main([word for name, value in flags.items() for word in (f"--{name}", str(value))], "list-batch")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert rows[0] == {
        "id": "ann", "image": "../pictures/ann.png", "audio": "../sounds/ann.wav", "prompt": "Ann talks."
    }  # fmt: skip
    assert [row["prompt"] for row in rows[1:]] == ["Somebody."] * 2
    items = read_list(str(out), Base("talkverse", Weights(weights=""), Machine(), {}))
    assert not any(item.error for item in items)


def test_one_file_is_for_all(folders):
    sound = str(folders / "sounds/ann.wav")
    rows = list_batch(str(folders / "pictures"), sound, "x", str(folders / "l.jsonl"))
    assert {row["id"]: row["audio"] for row in rows} == dict.fromkeys(("ann", "bob", "cy"), "sounds/ann.wav")


def test_what_does_not_fit_is_one_line(folders):
    pictures, sounds, out = (str(folders / name) for name in ("pictures", "sounds", "l.jsonl"))
    with pytest.raises(UserError, match="bob.txt: no such file; write the picture's prompt there"):
        list_batch(pictures, sounds, None, out)
    (folders / "sounds/cy.flac").unlink()
    with pytest.raises(UserError, match="1 without a partner of the same name: cy; rename"):
        list_batch(pictures, sounds, "x", out)
    (folders / "pictures/ann.webp").write_text("")
    with pytest.raises(UserError, match="ann.webp: ann.png has that name too"):
        list_batch(pictures, sounds, "x", out)
    with pytest.raises(UserError, match="nowhere: no such file or folder; give the pictures"):
        list_batch("nowhere", sounds, "x", out)


def test_names_meet_that_are_written_in_two_ways(tmp_path):
    """The pictures come from macOS, where an accent is a character of its own; the sounds and prompts do not."""
    nfc, nfd = "Zoë", "Zoe\u0308"
    for name in (f"pictures/{nfd}.png", "pictures/Bo.png", f"sounds/{nfc}.wav", "sounds/Bo.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / f"pictures/{nfc}.txt").write_bytes(b"\xef\xbb\xbfShe talks.\r\n")
    pictures, sounds, out = (str(tmp_path / name) for name in ("pictures", "sounds", "l.jsonl"))
    rows = list_batch(pictures, sounds, "x", out)
    assert rows[1] == {
        "id": nfd, "image": f"pictures/{nfd}.png", "audio": f"sounds/{nfc}.wav", "prompt": "She talks."
    }  # fmt: skip
    (tmp_path / f"pictures/{nfc}.jpg").touch()
    with pytest.raises(UserError, match="has that name too"):
        list_batch(pictures, sounds, "x", out)
    (tmp_path / f"pictures/{nfc}.jpg").unlink()
    (tmp_path / "sounds/Bo.wav").rename(tmp_path / "sounds/bo.wav")
    with pytest.raises(UserError, match="2 without a partner .*: Bo, bo; write them in the same case"):
        list_batch(pictures, sounds, "x", out)


@pytest.mark.parametrize(
    "data, message",
    [
        ("Jörg talks.".encode("cp1252"), "ann.txt line 1: byte 0xf6 is not UTF-8; save it as plain text in UTF-8"),
        ("\n她在说话".encode("gbk"), "ann.txt line 2: byte 0xcb is not UTF-8; save it as plain text in UTF-8"),
        (b"{\\rtf1 Ann talks.}", "ann.txt: is rich text"),
        (b" \n", "ann.txt: is empty; write the picture's prompt there, or remove it and give --prompt"),
    ],
)
def test_prompts_in_other_encodings_are_refused(folders, data, message):
    (folders / "pictures/ann.txt").write_bytes(data)
    with pytest.raises(UserError, match=message):
        list_batch(str(folders / "pictures"), str(folders / "sounds"), "x", str(folders / "l.jsonl"))


def test_a_prompt_of_notepad_is_read(folders):
    (folders / "pictures/ann.txt").write_text("Jörg\u2028talks.\r\n", encoding="utf-16", newline="")
    rows = list_batch(str(folders / "pictures"), str(folders / "sounds"), "x", str(folders / "l.jsonl"))
    assert rows[0]["prompt"] == "Jörg\u2028talks."


def test_a_name_that_is_no_text_is_refused(folders):
    with open(bytes(folders / "pictures") + b"/caf\xe9.png", "wb"):
        pass
    with pytest.raises(UserError, match=r"caf\\udce9.png': a name that is not UTF-8; rename it"):
        list_batch(str(folders / "pictures"), str(folders / "sounds"), "x", str(folders / "l.jsonl"))
