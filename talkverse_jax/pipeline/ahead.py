"""Programs are made ready on a thread of their own while weights are read: to trace and load those of a run takes
seconds of the processor, to read its weights mostly the disk's time."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import jax

from talkverse_jax.core.stopwatch import waiting_for_programs
from talkverse_jax.pipeline.models import Models
from talkverse_jax.pipeline.programs import Call


@contextmanager
def made_ready(models: Models, calls: Iterable[Call]) -> Iterator[None]:
    """For the length of the block, programs are compiled, or loaded where they are kept, one after the other. When the
    block ends, the one that is under way is waited for; the rest are made when a run comes to them.

    Args:
      calls: in the order that a run comes to them, with the very shapes, types and places: JAX then has them in memory.
    """
    stop = threading.Event()

    def make() -> None:
        with models.precision:
            for call in calls:
                if stop.is_set():
                    return
                try:
                    call.function.lower(*call.args, **call.static).compile()
                except jax.errors.JaxRuntimeError:
                    return  # whoever calls the program is told

    thread = threading.Thread(target=make, name="programs")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        with waiting_for_programs():
            thread.join()
