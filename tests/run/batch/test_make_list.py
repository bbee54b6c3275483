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
