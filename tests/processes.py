"""Programs that run as two processes of four virtual CPU devices each."""

import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def run_together(body: str, *arguments: Sequence[object], within: float) -> list[str]:
    """What the processes of a program print; none is left behind.

    Args:
      body: Python, which may import tests.
      arguments: of every process, its `sys.argv[1:]`.
      within: seconds for all of them.
    """
    environ = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")} | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "PYTHONPATH": str(ROOT),
    }
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    command, started = [sys.executable, "-c", textwrap.dedent(body)], []
    try:
        for own in arguments:
            started.append(subprocess.Popen([*command, *map(str, own)], env=environ, **pipes))
        texts = [process.communicate(timeout=within) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert not any(process.returncode for process in started), "\n".join(errors for _, errors in texts)
    return [output for output, _ in texts]
