"""The program of a worker's process under an actor: another one, that ends with its parent.

python -m talkverse_jax.run.cluster.begin PARENT MODULE ARGUMENT ...
"""

import ctypes
import os
import runpy
import signal
import sys

_DIE_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG


def main() -> None:
    """Let Ctrl-C through, which Ray blocks for all it starts, and be the module."""
    parent, module = int(sys.argv.pop(1)), sys.argv.pop(1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before
        sys.exit(1)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
