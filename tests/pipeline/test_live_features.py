"""Features of a sound whose end nobody knows."""

import numpy as np
import pytest

from talkverse_jax.media.live_sound import LiveSound
from talkverse_jax.pipeline.encoders import SAMPLE_RATE, normalise
from talkverse_jax.pipeline.endless import UNENDING, Endless
from talkverse_jax.pipeline.live_features import AHEAD, ROW, LiveFeatures, RunningScaling

WINDOW = 2.0
_ROWS = round(WINDOW * 25)


class Means:
    """A row is the mean of its own samples."""

    def __init__(self):
        self.rooms = set()

    def encode_normalised(self, waveform, room):
        self.rooms.add(room)
        assert len(waveform) <= room
        rows = -(-(len(waveform) - 80) // ROW)
        padded = np.pad(waveform, (0, max(0, rows * ROW - len(waveform))))[: rows * ROW]
        return padded.reshape(rows, 1, ROW).mean(-1, keepdims=True)


def voice(rows: int, seed: int = 0) -> np.ndarray:
    """Each row of another level, about 0.06 in all."""
    levels = np.random.default_rng(seed).normal(0, 0.06, rows)
    return np.repeat(levels, ROW).astype(np.float32)


@pytest.fixture
def sound():
    made = LiveSound(SAMPLE_RATE, held=4.0, patience=1e6)
    made.begin()
    return made


def test_rows_come_from_the_last_seconds(sound):
    encoder, heard = Means(), voice(200)
    features = LiveFeatures(encoder, sound, WINDOW)
    assert len(features) == UNENDING
    sound.write(heard)
    levels = heard[::ROW]
    for start in range(0, 150, 10):
        rows = features[np.arange(start, start + 10)]
        scale = np.polyfit(levels[start : start + 10], rows[:, 0, 0], 1)  # another for each clip
        np.testing.assert_allclose(np.polyval(scale, levels[start : start + 10]), rows[:, 0, 0], atol=1e-4)
        assert 0.6 < scale[0] * 0.06 < 1.6
        sound.use((start + 10) * ROW)
    assert encoder.rooms == {_ROWS * ROW}
    with pytest.raises(ValueError, match="before the window"):
        features[np.arange(100, 195)]


def test_the_end_is_known_when_it_comes(sound):
    features = LiveFeatures(Means(), sound, WINDOW)
    sound.write(voice(3)[: 2 * ROW + 50])
    sound.close()
    assert len(features) == 3
    assert features[np.array([0, 1, 2])].shape == (3, 1, 1)


def test_after_a_rehearsal_it_begins_anew():
    live = LiveSound(SAMPLE_RATE, patience=1e6)
    rehearsed, fresh = (LiveFeatures(Means(), live, WINDOW) for _ in range(2))
    assert not rehearsed[np.arange(20)].any() and not rehearsed[np.arange(20, 40)].any()
    live.begin()
    live.write(voice(40))
    np.testing.assert_array_equal(rehearsed[np.arange(20)], fresh[np.arange(20)])


def test_the_running_scale_becomes_that_of_the_whole_sound():
    heard, running = voice(2000) + np.float32(0.01), RunningScaling()
    for start in range(0, len(heard), 7 * ROW):
        running.hear(heard[start : start + 7 * ROW])
    np.testing.assert_allclose(running.now(heard), normalise(heard), atol=0.12)
    before = running.now
    running.hear(np.zeros(60 * SAMPLE_RATE))
    assert running.now == before  # silence says nothing of a voice


def test_clips_without_an_end():
    timeline = Endless.of(5, 8, heard_ahead=3)
    assert [timeline.begins(clip) for clip in range(3)] == [0, 5, 13]
    assert [timeline.hears(clip) for clip in range(2)] == [8, 16]
    assert (timeline.shown_of(0), timeline.shown_of(9)) == (slice(0, 5), slice(0, 8))
    assert Endless.of(9, 4, known=5).shown_of(1) == slice(5, 9)
    assert "without an end" in str(timeline)
    assert AHEAD * SAMPLE_RATE % ROW == 0
