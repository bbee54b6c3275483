"""A process of ours finds our modules, and its answers are not mixed with what is printed."""

import os
import subprocess

from talkverse_jax.core.own_process import command, environ, pipes


def main() -> None:
    """What the process runs."""
    asked, said = pipes()
    print("a library prints", flush=True)
    said.write(asked.readline().upper() + os.environ["WORD"].encode())
    said.flush()


def test_a_question_is_answered(tmp_path):
    ended = subprocess.run(
        command(__name__), env=environ(WORD="more"), input=b"talk\n", capture_output=True, cwd=tmp_path, timeout=60
    )
    assert (ended.stdout, ended.stderr) == (b"TALK\nmore", b"a library prints\n")
