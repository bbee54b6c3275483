"""Processes that run the `main` of a module of ours beside this one: how they begin, and their ends of the pipes.
Imports no JAX.

    process = subprocess.Popen(command("talkverse_jax.media.child"), env=environ(), stdin=PIPE, stdout=PIPE)
"""

import os
import sys
from typing import BinaryIO


def command(module: str, *words: str) -> list[str]:
    """What starts a process; `words` are its arguments."""
    return [sys.executable, "-c", f"from {module} import main; main()", *words]


def environ(**more: str) -> dict[str, str]:
    """This process's environment, with more, where modules are found as here."""
    paths = os.pathsep.join(place or os.getcwd() for place in sys.path)
    return {**os.environ, **more, "PYTHONPATH": paths}


def pipes() -> tuple[BinaryIO, BinaryIO]:
    """In such a process: what it is asked, and where it answers. What libraries print goes to standard error."""
    said = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return sys.stdin.buffer, said
