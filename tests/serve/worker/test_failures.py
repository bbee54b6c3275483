"""Why a job failed, as its client is told."""

import errno

import pytest

from talkverse_jax.core.errors import UserError, disk_is_full
from talkverse_jax.run.video import NotFinite
from talkverse_jax.serve.worker.failures import failure_of, missing_input


def _full() -> UserError:
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise UserError("video.mp4: cannot be written") from None
    except UserError as error:
        return error


def test_a_full_disk_is_known_however_it_is_told():
    assert disk_is_full(_full()) and disk_is_full(OSError(errno.EDQUOT, "quota"))
    assert not disk_is_full(OSError(errno.EACCES, "no")) and not disk_is_full(UserError("damaged"))


@pytest.mark.parametrize(
    "error, code, param",
    [
        (NotFinite("clip 1"), "not_finite", None),
        (MemoryError(), "out_of_memory", None),
        (UserError("0: give more", field="sample_steps"), "generation_failed", "sample_steps"),
        (ZeroDivisionError("x"), "generation_failed", None),
    ],
)
def test_failures_have_codes(tmp_path, error, code, param):
    found = failure_of(error, tmp_path)
    assert (found["say"], found["code"], found["param"]) == ("failed", code, param)
    assert "\n" not in found["message"] and found["message"]


def test_no_folder_of_the_machine_is_told(tmp_path):
    message = failure_of(UserError(f"{tmp_path}/image: damaged\nmore"), tmp_path)["message"]
    assert message == "image: damaged"


def test_a_missing_file_is_named(tmp_path):
    (tmp_path / "image").touch()
    assert missing_input(tmp_path, {"image": "image", "audio": None}) is None
    assert missing_input(tmp_path, {"image": "image", "audio": ("none", "gone")}) == "audio"
