import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import existing_file, new_folder


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
