import io
import itertools
import os
import threading
import time

import numpy as np

from talkverse_jax.toy.voice import play, sentences


def test_voices_take_turns_with_pauses():
    one, other = itertools.islice(sentences(3), 2)
    assert len(one) == len(other) == 7 * 16_000 and (one != other).any()
    assert one[:80_000].any() and not one[-32_000:].any()


def test_they_speak_at_their_own_speed():
    heard, said = os.pipe()
    begun = time.monotonic()
    speaking = threading.Thread(target=play, args=(0.2, 3, io.FileIO(said, "wb")))
    speaking.start()
    bytes_ = b"".join(iter(lambda: os.read(heard, 1 << 16) if speaking.is_alive() else b"", b""))
    speaking.join()
    assert time.monotonic() - begun >= 0.2
    os.close(heard)
    np.testing.assert_array_equal(np.frombuffer(bytes_, "<i2"), next(sentences(3))[: len(bytes_) // 2])
