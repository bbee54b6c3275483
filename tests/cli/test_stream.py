"""`talkverse-jax stream`: what it refuses before it loads a model."""

import io
import os
import sys

import pytest

from talkverse_jax.cli import stream
from talkverse_jax.core.errors import UserError
from tests.processes import ROOT

FLAGS = ["--weights", str(ROOT / "tests/fixtures/before/weights"), "--image", "face.png", "--prompt", "x"]


def run(*more: str) -> None:
    stream.main([*FLAGS, *more], "talkverse-jax stream")


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--sound", ""], "give a file, - or microphone"),
        (["--rate", "10"], "from 8000 to 192000"),
        (["--when_behind", "run"], "wait"),
        (["--most_behind", "0"], "above 0"),
    ],
)
def test_what_cannot_be_given(flags, said):
    with pytest.raises(UserError, match=said):
        run(*flags)


def test_a_terminal_is_no_pipe(monkeypatch):
    """Found before a model or a sound is looked at."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    with pytest.raises(UserError, match="nothing is piped in"):
        run()
    monkeypatch.setattr(sys, "stdout", Terminal())
    with pytest.raises(UserError, match="a terminal shows no video"):
        run("--sound", "nothing.wav", "--output", "-")


def test_reports_are_lines_of_a_file(tmp_path):
    path = tmp_path / "reports"
    for number in range(2):
        with stream._reporting(str(path)) as report:
            report({"frames": number})
    assert path.read_text() == '{"frames": 0}\n{"frames": 1}\n'


def test_bytes_go_out_at_once(tmp_path):
    with stream._opened(str(tmp_path / "a.mp4")) as sink:
        sink.write(b"abc")
        assert os.path.getsize(tmp_path / "a.mp4") == 3
