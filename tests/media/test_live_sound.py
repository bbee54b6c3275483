"""Sound that one thread writes while another reads it."""

import threading

import numpy as np
import pytest

from talkverse_jax.media.live_sound import LiveSound

RATE = 100


class Clock:
    """A clock that the test sets."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def sound(clock, **how) -> LiveSound:
    made = LiveSound(RATE, **{"held": 1.0, "room": 2.0, "patience": 0.0, "clock": clock} | how)
    made.begin()
    return made


def ramp(start: int, stop: int) -> np.ndarray:
    return np.arange(start, stop, dtype=np.float32) / 10_000


def test_what_is_written_is_read(clock):
    live = sound(clock)
    assert live.write(ramp(0, 50)) and live.write(ramp(50, 120))
    assert live.wait(120)
    np.testing.assert_array_equal(live.read(30, 110), ramp(30, 110))
    np.testing.assert_array_equal(live.read(100, 500), ramp(100, 120))
    assert (live.end, live.waiting, live.silent) == (120, 1.2, 0)


def test_what_was_used_long_ago_is_forgotten(clock):
    live = sound(clock)
    for start in range(0, 5000, 50):
        live.write(ramp(start, start + 50))
        live.use(start + 50)
    np.testing.assert_array_equal(live.read(4900, 5000), ramp(4900, 5000))
    with pytest.raises(ValueError, match="no longer held"):
        live.read(0, 10)


def test_a_writer_waits_for_room_and_for_the_end(clock):
    live, done = sound(clock), []
    writer = threading.Thread(target=lambda: done.append([live.write(ramp(0, 150)), live.write(ramp(150, 300))]))
    writer.start()
    writer.join(0.05)
    assert writer.is_alive() and live.waiting <= 2.0
    live.use(150)
    writer.join(5)
    assert done == [[True, True]]
    live.close()
    assert not live.write(ramp(300, 310))


def test_what_does_not_come_is_silence(clock):
    live = sound(clock)
    live.write(ramp(1, 51))
    clock.now += 1.0
    assert live.wait(100)
    np.testing.assert_array_equal(live.read(40, 100), [*ramp(41, 51), *np.zeros(50)])
    assert live.silent == 0.5
    live.write(ramp(1, 11))  # what comes late follows on
    np.testing.assert_array_equal(live.read(100, 110), ramp(1, 11))


def test_nothing_is_silence_before_it_is_late():
    live = LiveSound(RATE, patience=0.0)
    live.begin()
    threading.Timer(0.05, lambda: live.write(ramp(0, 20))).start()
    assert live.wait(20)
    assert live.silent == 0


def test_before_it_begins_all_is_silence():
    live = LiveSound(RATE)
    assert live.wait(10**9)
    np.testing.assert_array_equal(live.read(0, 20), np.zeros(20))


def test_the_end_and_what_broke_the_source(clock):
    live = sound(clock)
    live.write(ramp(0, 10))
    live.close()
    assert live.wait(10) and not live.wait(11) and live.ended
    broken = sound(clock)
    broken.close(OSError("unplugged"))
    with pytest.raises(OSError, match="unplugged"):
        broken.wait(1)


def test_what_is_left_out_moves_the_time_of_the_rest(clock):
    live = sound(clock)
    live.write(ramp(0, 150))
    live.use(20)
    assert live.drop(30) == 30
    np.testing.assert_array_equal(live.read(10, 120), [*ramp(10, 20), *ramp(50, 150)])
    assert live.due(20) == pytest.approx(1000.5)  # the sample that was number 50
    assert live.drop(1000) == 100 and live.dropped == 1.3


def test_samples_are_made_to_fit(clock):
    live = sound(clock)
    live.write(np.array([np.nan, 7.0, -7.0]))
    np.testing.assert_array_equal(live.read(0, 3), [0, 1, -1])
