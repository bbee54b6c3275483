import os
import unicodedata

import pytest

from talkverse_jax.core import files
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import existing_file, expanded, new_folder, on_disk, replacing, same_name


def test_a_file_is_there(tmp_path):
    (tmp_path / "a").touch()
    assert existing_file(str(tmp_path / "a"), "x") == tmp_path / "a"
    with pytest.raises(UserError, match="b: no such file; give the path of a picture"):
        existing_file(tmp_path / "b", "a picture")
    with pytest.raises(UserError, match=": is a folder; give the path of a picture"):
        existing_file(tmp_path, "a picture")


def test_a_folder_is_made(tmp_path):
    assert new_folder(tmp_path / "a" / "b").is_dir() and new_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: is a file; give another folder"):
        new_folder(tmp_path / "file")
    with pytest.raises(UserError, match=r"b: cannot be made \(Not a directory\); give another folder"):
        new_folder(tmp_path / "file" / "b")


NFC, NFD = "Émile ça", unicodedata.normalize("NFD", "Émile ça")


@pytest.mark.parametrize("there, asked", [(NFC, NFD), (NFD, NFC)])
def test_a_name_meets_its_other_form(tmp_path, there, asked):
    """Of folders and files, each in its own form."""
    assert there != asked and same_name(there) == same_name(asked)
    file = tmp_path / there / f"{asked} 你好.png"
    file.parent.mkdir()
    file.write_bytes(b"x")
    given = tmp_path / asked / f"{there} 你好.png"
    assert not given.exists() and on_disk(given) == file == existing_file(given, "a picture")
    assert files.exists(str(given))
    with files.open_file(given, "a picture") as opened:
        assert opened.read() == b"x"
    assert on_disk(tmp_path / asked / "none.png") == tmp_path / there / "none.png"
    given.parent.mkdir()
    given.write_bytes(b"y")  # where both are there, each is itself
    assert on_disk(given) == given


def test_paths_of_windows_below_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.png").touch()
    (tmp_path / "c\\d.png").touch()
    assert files.join(str(tmp_path), "a\\b.png") == f"{tmp_path}/a/b.png"
    assert files.join(str(tmp_path), "c\\d.png") == f"{tmp_path}/c\\d.png"  # a name of this machine
    assert files.join(str(tmp_path), "a\\" + "b" * 300) == f"{tmp_path}/a/{'b' * 300}"
    assert files.join("gs://bucket", "a\\b.png") == "gs://bucket/a\\b.png"


def test_a_home_of_nobody(tmp_path):
    for use in (expanded, files.exists, lambda path: files.join(path, "a")):
        with pytest.raises(UserError, match="~nobody-here/x: no such user; give the path in full"):
            use("~nobody-here/x")


def test_an_address_of_no_store():
    with pytest.raises(UserError, match="foo://a/b: foo:// is no kind of store; give a path, or gs:// or s3://"):
        files.exists("foo://a/b")


def test_what_is_written_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done, replace, fsync = [], os.replace, os.fsync

    def note_sync(handle):
        done.append(f"sync {os.path.basename(os.readlink(f'/proc/self/fd/{handle}'))}")
        fsync(handle)

    def note_rename(source, target):
        done.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_rename)
    with replacing(tmp_path / "a") as partial:
        partial.write_text("new")
        done.append("write")
    assert done == ["write", "sync a.partial", "rename", f"sync {tmp_path.name}"]


def test_a_link_under_the_partial_name_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("x")
    (tmp_path / "a.partial").symlink_to(tmp_path / "precious")
    with replacing(tmp_path / "a") as partial:
        partial.write_text("new")
    assert (tmp_path / "a").read_text() == "new" and not (tmp_path / "a").is_symlink()
    assert (tmp_path / "precious").read_text() == "x"
