"""A video that plays while it is written."""

import io

import av
import numpy as np
import pytest

from talkverse_jax.media.live_writer import Mp4Writer, RawWriter

CLIPS = (5, 8, 8, 4)
AHEAD = 0.12


class Trickle(io.BytesIO):
    """An unbuffered file: it takes no more than 1000 bytes at once."""

    def write(self, data, /):
        return super().write(data[:1000])


def clip(number: int, frames: int) -> np.ndarray:
    return np.full((frames, 32, 48, 3), 40 * number + 30, np.uint8)


def tone(start: float, stop: float) -> np.ndarray:
    at = np.arange(round(start * 16_000), round(stop * 16_000)) / 16_000
    return (0.3 * np.sin(2 * np.pi * 300 * at)).astype(np.float32)


def played(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Frames and samples."""
    with av.open(io.BytesIO(data), "r") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(io.BytesIO(data), "r") as container:
        sound = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    return np.stack(frames), np.concatenate(sound)


@pytest.fixture(scope="module")
def parts():
    """What is in the file after each clip, and at the end."""
    sink, found, shown = Trickle(), [], 0
    writer = Mp4Writer(sink, (32, 48), 16_000)
    for number, frames in enumerate(CLIPS):
        start, stop = shown / 25, (shown + frames) / 25
        writer.write(clip(number, frames), tone(start + AHEAD if shown else 0, stop + AHEAD))
        shown += frames
        found.append(sink.getvalue())
    writer.close()
    return [*found, sink.getvalue()]


def test_each_clip_can_be_played_once_it_is_written(parts):
    for part, shown in zip(parts, np.cumsum(CLIPS)):
        frames, sound = played(part)
        assert len(frames) == shown
        assert len(sound) / 48_000 > shown / 25 - 0.05


def test_bytes_are_only_added(parts):
    for before, after in zip(parts, parts[1:]):
        assert after.startswith(before)


def test_pictures_and_sound_are_in_step(parts):
    frames, sound = played(parts[-1])
    levels = np.repeat([40 * number + 30 for number in range(len(CLIPS))], CLIPS)
    np.testing.assert_allclose(frames.mean(axis=(1, 2, 3)), levels, atol=4)
    expected = 0.3 * np.sin(2 * np.pi * 300 * np.arange(len(sound)) / 48_000)
    np.testing.assert_allclose(sound[2000:40_000], expected[2000:40_000], atol=0.02)


def test_bare_frames():
    sink = Trickle()
    writer = RawWriter(sink)
    for number, frames in enumerate(CLIPS):
        writer.write(clip(number, frames), tone(0, 1))
    writer.close()
    assert sink.getvalue() == b"".join(clip(number, frames).tobytes() for number, frames in enumerate(CLIPS))


def test_a_reader_that_goes_is_noticed():
    class Gone:
        def write(self, data, /):
            raise BrokenPipeError

    writer = Mp4Writer(Gone(), (32, 48), 16_000)
    with pytest.raises(BrokenPipeError):
        writer.write(clip(0, 8), tone(0, 1))
