"""SIGTERM, which a machine that is about to be taken away sends, asks a run to save and end."""

import os
import signal
import threading

import jax
from jax.experimental import multihost_utils


class Interruption:
    """While it is entered, SIGTERM ends nothing at once: `due` says when to save.

    Of several processes, where one is told, all agree on the step (`distributed.session(preemption=True)`).
    """

    def __init__(self):
        self._told = threading.Event()
        self._before = None

    def __enter__(self) -> "Interruption":
        if jax.process_count() == 1:  # else JAX's own service listens
            self._before = signal.signal(signal.SIGTERM, lambda *_: self._told.set())
        return self

    def __exit__(self, *_) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def ask(self) -> None:
        """The same from within, of one process for all."""
        os.kill(os.getpid(), signal.SIGTERM)

    def due(self, step: int) -> bool:
        """Whether to save now; every process asks after every step."""
        if jax.process_count() == 1:
            return self._told.is_set()
        return multihost_utils.reached_preemption_sync_point(step)
