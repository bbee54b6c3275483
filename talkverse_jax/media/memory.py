"""Memory that decoding takes, shared by all threads of the process: who would go beyond it waits.

A batch reads the pictures of many items at once, and what a picture takes says its size, not its file.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from talkverse_jax.core.heap import give_back

_BYTES_A_PIXEL = 24  # while a picture is decoded, turned, converted and scaled; 15 to 30 by its kind
_BUDGET = 2 << 30
_LARGE = 256 << 20

_changed = threading.Condition()
_taken: list[int] = []


@contextmanager
def for_pixels(pixels: int) -> Iterator[None]:
    """Hold the memory that a picture of so many pixels takes; wait until others have given back enough of it.

    What is larger than all there is goes alone. A block must not hold memory twice.
    """
    size = pixels * _BYTES_A_PIXEL
    with _changed:
        _changed.wait_for(lambda: not _taken or sum(_taken) + size <= _BUDGET)
        _taken.append(size)
    try:
        yield
    finally:
        if size > _LARGE:
            give_back()  # each thread has a heap, which would keep it: six threads in turn took 2.4 GB, with this 0.9
        with _changed:
            _taken.remove(size)
            _changed.notify_all()
