import numpy as np
import pytest

from talkverse_jax.media.video_writer import VideoWriter
from talkverse_jax.media.whole import fault


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "a.mp4"
    with VideoWriter(path, width=64, height=64, sound=[np.zeros((48000, 1), np.float32)], rate=48000) as writer:
        writer.write(np.random.default_rng(0).integers(0, 256, (25, 64, 64, 3), dtype=np.uint8))
    return path


def test_a_whole_one(video):
    assert fault(video, 25, video.stat().st_size) is None
    assert fault(video, None) is None


def _zeroed(data, start, length):
    return data[:start] + bytes(length) + data[start + length :]


DAMAGE = {
    "empty": (lambda data: b"", "is no whole mp4 (0 bytes)"),
    "cut short": (lambda data: data[:-1], "is no whole mp4"),
    "half": (lambda data: data[: len(data) // 2], "is no whole mp4"),
    "a page": (lambda data: data[:4096], "is no whole mp4"),
    "zeros": (lambda data: bytes(len(data)), "is no whole mp4"),
    "no index": (lambda data: data.replace(b"moov", b"free"), "is no whole mp4"),
    "index of zeros": (lambda data: _zeroed(data, data.find(b"moov") + 4, 2000), ""),
    "more behind it": (lambda data: data + b"\0\0\0\1", "is no whole mp4"),
    "a text": (lambda data: b"no video at all", "is no whole mp4"),
}


@pytest.mark.parametrize("change, message", DAMAGE.values(), ids=DAMAGE)
def test_damaged_ones(video, tmp_path, change, message):
    (tmp_path / "a.mp4").write_bytes(change(video.read_bytes()))
    assert message in (fault(tmp_path / "a.mp4", 25) or "none")
    assert fault(tmp_path / "a.mp4", 25)


def test_another_length(video, tmp_path):
    size = video.stat().st_size
    assert fault(video, 26) == "has 25 frames of 26"
    assert fault(video, 25, size + 1) == f"has {size} bytes of {size + 1}"
    assert fault(tmp_path, 25) == fault(tmp_path / "none", 25) == "is no file"
