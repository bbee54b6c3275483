"""What a server and a worker print: their state on standard output, their log on standard error."""

import logging
import sys


def say(text: str) -> None:
    """Print a line, at once."""
    print(f"talkverse_jax: {text}", flush=True)


class States:
    """Prints once that all is ready; that models load anew, `/health` tells."""

    def __init__(self) -> None:
        self._ready = False

    def __call__(self, state: str) -> None:
        if state == "ready" and not self._ready:
            self._ready = True
            say(state)


def log_to_stderr() -> None:
    """A line of the log for each request and change of a job; of other programs' parts only what is wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    for name, level in (("talkverse_jax.serve", logging.INFO), ("uvicorn", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
