import multiprocessing
import os
import signal

import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.lock import locked


def _hold(path, told):
    with locked(path, "taken"):
        told.send("held")
        told.recv()


@pytest.fixture
def holder(tmp_path):
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_hold, args=(tmp_path / "lock", there))
    process.start()
    assert here.recv() == "held"
    yield process, here
    process.kill()
    process.join()


def test_one_has_it(tmp_path, holder):
    process, pipe = holder
    with (
        pytest.raises(UserError, match=rf"^taken \(process {process.pid} on .+\)$"),
        locked(tmp_path / "lock", "taken"),
    ):
        raise AssertionError
    pipe.send("go")
    process.join()
    assert not (tmp_path / "lock").exists()
    with locked(tmp_path / "lock", "taken"):
        assert (tmp_path / "lock").exists()
    assert not (tmp_path / "lock").exists()


def test_a_killed_one_has_it_no_more(tmp_path, holder):
    process, _ = holder
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert (tmp_path / "lock").exists()
    with locked(tmp_path / "lock", "taken"):
        pass
    assert not (tmp_path / "lock").exists()


def test_within_a_process_too(tmp_path):
    with locked(tmp_path / "lock", "taken"):
        with pytest.raises(UserError, match="^taken"), locked(tmp_path / "lock", "taken"):
            raise AssertionError
        assert (tmp_path / "lock").exists()


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("x")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError), locked(tmp_path / "lock", "taken"):
        raise AssertionError
    assert (tmp_path / "precious").read_text() == "x"
